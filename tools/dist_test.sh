#!/usr/bin/env bash
# Test on several processes of this machine, or of several machines.
#
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of tools/test.py]
#
# Environment: as for tools/dist_train.sh.
set -euo pipefail
tools="$(dirname "${BASH_SOURCE[0]}")"
source "$tools/launch.sh"
usage 3 "$@"
launch test.py "$3" "$1" "$2" "${@:4}"
