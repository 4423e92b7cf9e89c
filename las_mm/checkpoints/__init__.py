"""Checkpoints: loaded safely, written whole, converted, and exact to resume from."""
