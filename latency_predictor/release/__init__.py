"""LAUDNet's released latency simulator, reproduced with its quirks, to compare with the model."""

from .networks import released_ms

__all__ = ['released_ms']
