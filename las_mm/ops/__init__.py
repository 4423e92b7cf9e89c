"""Patch geometry, the Gumbel decision and the executors of a dynamic block; needs only torch."""

from .geometry import conv_size, dilate_mask, grid_size, parse_granularity, upsample_mask
from .gumbel import gumbel_decision

__all__ = [
    'conv_size',
    'dilate_mask',
    'grid_size',
    'gumbel_decision',
    'parse_granularity',
    'upsample_mask',
]
