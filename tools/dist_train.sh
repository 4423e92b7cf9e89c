#!/usr/bin/env bash
# Train on several processes of this machine, or of several machines.
#
#   tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]
#
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT for several machines; PYTHON.
set -euo pipefail
tools="$(dirname "${BASH_SOURCE[0]}")"
source "$tools/launch.sh"
usage 2 "$@"
launch train.py "$2" "$1" "${@:3}"
