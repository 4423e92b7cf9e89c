"""Masker, block trace and dynamic residual blocks; needs only torch."""

from .bottleneck import DynamicBasicBlock, DynamicBottleneck
from .dynamic_block import DynamicBlock
from .gated_block import GatedBlock
from .masker import Masker
from .squeeze_excitation import SqueezeExcitation
from .trace import BlockTrace

__all__ = [
    'BlockTrace',
    'DynamicBasicBlock',
    'DynamicBlock',
    'DynamicBottleneck',
    'GatedBlock',
    'Masker',
    'SqueezeExcitation',
]
