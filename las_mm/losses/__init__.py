"""Losses of Eq. 2 beside the task's own, as pure functions of tensors."""

from .bounds import bounds_loss, open_bounds, start_rate
from .distillation import distillation_loss
from .flops import flops_loss
from .usage import usage_loss

__all__ = [
    'bounds_loss',
    'distillation_loss',
    'flops_loss',
    'open_bounds',
    'start_rate',
    'usage_loss',
]
