#!/bin/sh
# Installs what one service needs into the Python on PATH, from envs/locks: install.sh prep | infer | session | gateway
# The Dockerfiles run this, and so do `make venv-full`, `make venv-streaming` and `make check-envs`.
set -eu
locks=$(dirname "$0")/locks
pip() { command pip --disable-pip-version-check "$@"; }

with_torch() { # NAME
    pip install --no-deps -r "$locks/$1-torch.txt"
    pip install --require-hashes -r "$locks/$1.txt"
    pip install -r "$locks/$1-torch.txt" # brings what a CUDA build pins in its own metadata; nothing with a CPU build
}

case "${1-}" in
prep)
    with_torch full
    pip install --no-deps --require-hashes -r "$locks/full-no-deps.txt"
    ;;
infer) with_torch streaming ;;
session) pip install --require-hashes -r "$locks/default.txt" ;;
gateway) pip install --require-hashes -r "$locks/gateway.txt" ;;
*) echo "usage: envs/install.sh prep | infer | session | gateway" >&2 && exit 2 ;;
esac
