"""The suites of tools/benchmark_cuda.py."""
