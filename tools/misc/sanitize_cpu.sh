#!/bin/sh
# Run the native code's tests under AddressSanitizer and UndefinedBehaviorSanitizer.
#
# Usage: tools/misc/sanitize_cpu.sh [PYTHON] [pytest arguments]
# Builds a copy of the extension with the sanitizers in a temporary folder; needs GCC.
set -eu

cd "$(dirname "$0")/../.."
python=${1:-python}
[ $# -gt 0 ] && shift

cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT

# The sanitizers must be the first libraries of the process. Python itself does not give back what
# it allocates at start, so leaks are not looked for.
export LAS_MM_SANITIZE=1 LAS_MM_CACHE="$cache" OMP_NUM_THREADS=2
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
libraries=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)

LD_PRELOAD=$libraries "$python" -m pytest -q -p no:cacheprovider -k 'cpu or not torch' \
    tests/executors/test_executor_cpu.py tests/ops/test_winograd.py tests/executors/test_executors.py tests/executors/test_chain.py \
    tests/executors/test_channel_skipping.py tests/executors/test_inverted_residuals.py tests/executors/test_token_executors.py \
    tests/executors/test_stem.py tests/ops/test_native_training.py tests/ops/test_contiguous_copies.py "$@"
