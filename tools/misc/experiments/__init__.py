"""The experiments of docs/experiments.md: which runs there are, and what is written about them."""
