"""Patch geometry and the Gumbel decision; needs only torch."""

from .geometry import (
    WHOLE,
    Granularity,
    conv_size,
    dilate_mask,
    format_granularity,
    grid_size,
    parse_granularity,
    upsample_mask,
)
from .gumbel import gumbel_decision

__all__ = [
    'WHOLE',
    'Granularity',
    'conv_size',
    'dilate_mask',
    'format_granularity',
    'grid_size',
    'gumbel_decision',
    'parse_granularity',
    'upsample_mask',
]
