"""mmengine hooks: temperature schedule, sparsity losses, distillation, latency report."""

from .distillation import DistillationHook
from .safe_checkpoint import SafeCheckpointHook
from .sparsity import SparsityLossHook
from .temperature import GumbelTemperatureHook

__all__ = [
    'DistillationHook',
    'GumbelTemperatureHook',
    'SafeCheckpointHook',
    'SparsityLossHook',
]
