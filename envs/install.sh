#!/bin/sh
# Installs what one service needs into the Python on PATH, from envs/locks: install.sh prep | infer | session | gateway | test
# The Dockerfiles run this, and so do `make venv-full`, `make venv-streaming` and `make check-envs`.
set -eu
locks=$(dirname "$0")/locks
pip() { python -m pip --disable-pip-version-check "$@"; }

locked() { # ARGUMENT... : by uv where uv is on PATH (the same files in a tenth of the time), else by pip
    if command -v uv >/dev/null; then
        uv pip install --python "$(command -v python)" --require-hashes "$@"
    else
        pip install --require-hashes "$@"
    fi
}

with_torch() { # NAME
    pip install --no-deps -r "$locks/$1-torch.txt"
    locked -r "$locks/$1.txt"
    pip install -r "$locks/$1-torch.txt" # brings what a CUDA build pins in its own metadata; nothing with a CPU build
}

case "${1-}" in
prep)
    with_torch full
    locked --no-deps -r "$locks/full-no-deps.txt"
    ;;
infer) with_torch streaming ;;
session) locked -r "$locks/default.txt" ;;
gateway) locked -r "$locks/gateway.txt" ;;
test) locked -r "$locks/test.txt" ;; # pytest and its like, for an environment with torch
*) echo "usage: envs/install.sh prep | infer | session | gateway | test" >&2 && exit 2 ;;
esac
