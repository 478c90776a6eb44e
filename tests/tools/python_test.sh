#!/bin/sh
# Runs a Python test with Debian's Python, whose PyTorch and gRPC are what deploy/install.sh --tests installs.
exec /usr/bin/python3 "$@"
