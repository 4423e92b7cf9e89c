"""Whole detectors and classifiers made fast for inference, measured, and put back as they were."""

from .measuring import make_static, measure_backbone
from .optimizing import optimize_for_inference, restore_after_inference
from .precision import check_precision
from .quantizing import quantize, unquantize

__all__ = [
    'check_precision',
    'make_static',
    'measure_backbone',
    'optimize_for_inference',
    'quantize',
    'restore_after_inference',
    'unquantize',
]
