"""mmengine hooks: temperature schedule, sparsity losses, distillation, latency report, masks."""

from .distillation import DistillationHook
from .latency_report import LatencyReportHook
from .mask_visualization import MaskVisualizationHook
from .safe_checkpoint import SafeCheckpointHook
from .sparsity import SparsityLossHook
from .temperature import GumbelTemperatureHook

__all__ = [
    'DistillationHook',
    'GumbelTemperatureHook',
    'LatencyReportHook',
    'MaskVisualizationHook',
    'SafeCheckpointHook',
    'SparsityLossHook',
]
