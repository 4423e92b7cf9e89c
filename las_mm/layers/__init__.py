"""Maskers and their decisions, branches, traces and dynamic blocks; needs only torch."""

from .bottleneck import DynamicBasicBlock, DynamicBottleneck
from .branch import DILATED, Branch, Step, Work, conv_macs, convs_of
from .decision import BRANCH, SITES, Decision
from .dynamic_block import DynamicBlock
from .executor import Executor, Masks, Run
from .gated_block import GatedBlock
from .maskers import BranchMasker, Masker, PatchMasker
from .squeeze_excitation import SqueezeExcitation
from .squeeze_masker import SqueezeMasker, make_masker
from .trace import BlockTrace

__all__ = [
    'BRANCH',
    'DILATED',
    'SITES',
    'BlockTrace',
    'Branch',
    'BranchMasker',
    'Decision',
    'DynamicBasicBlock',
    'DynamicBlock',
    'DynamicBottleneck',
    'Executor',
    'GatedBlock',
    'Masker',
    'Masks',
    'PatchMasker',
    'Run',
    'SqueezeExcitation',
    'SqueezeMasker',
    'Step',
    'Work',
    'conv_macs',
    'convs_of',
    'make_masker',
]
