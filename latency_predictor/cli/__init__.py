"""Command line of the latency predictor."""

from .command import build_parser, main

__all__ = ['build_parser', 'main']
