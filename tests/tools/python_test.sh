#!/bin/sh
# Runs a Python test with Debian's Python, whose PyTorch, gRPC and safetensors are what deploy/install.sh --tests installs.
export PYTHONPATH="${MYRIAD_CACHE:-$HOME/.cache/myriad}/python-tests"
exec /usr/bin/python3 "$@"
