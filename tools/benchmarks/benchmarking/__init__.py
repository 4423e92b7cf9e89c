"""Parts of tools/benchmarks/benchmark.py."""
