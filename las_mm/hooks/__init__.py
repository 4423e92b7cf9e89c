"""mmengine hooks: temperature schedule, losses of rates, distillation, latency report, masks."""

from .distillation import DistillationHook
from .invalid_loss import InvalidLossHook
from .latency_report import LatencyReportHook
from .mask_visualization import MaskVisualizationHook
from .optimizing import OptimizeHook
from .safe_checkpoint import SafeCheckpointHook
from .sparsity import SparsityLossHook
from .temperature import GumbelTemperatureHook
from .usage import UsageLossHook

__all__ = [
    'DistillationHook',
    'GumbelTemperatureHook',
    'InvalidLossHook',
    'LatencyReportHook',
    'MaskVisualizationHook',
    'OptimizeHook',
    'SafeCheckpointHook',
    'SparsityLossHook',
    'UsageLossHook',
]
