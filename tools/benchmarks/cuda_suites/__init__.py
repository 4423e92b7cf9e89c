"""The suites of tools/benchmarks/benchmark_cuda.py."""
