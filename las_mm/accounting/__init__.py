"""What a dynamic network computes, exactly and as its authors' training code counts it."""

from .cost import BlockCost, NetworkCost, Shares, block_cost
from .released import CODES, ReleasedRatios, released_fixed_macs, released_ratios

__all__ = [
    'CODES',
    'BlockCost',
    'NetworkCost',
    'ReleasedRatios',
    'Shares',
    'block_cost',
    'released_fixed_macs',
    'released_ratios',
]
