"""Maskers and their decisions, branches, traces and dynamic blocks; needs only torch."""

from .bottleneck import DynamicBasicBlock, DynamicBottleneck
from .branch import DILATED, PAIRS, Branch, Step, Work, channel_shares, conv_macs, convs_of
from .channel_masker import ChannelMasker, check_channel_masker
from .decision import BLOCKS, BRANCH, CHANNELS, HEADS, SITES, TOKENS, Decision
from .dynamic_block import DynamicBlock
from .encoder_block import POLICIES, EncoderBlock
from .encoder_branch import ATTENTION, MLP, EncoderBranch
from .executor import Executor, Masks, Run
from .gated_block import GatedBlock
from .maskers import BranchMasker, Masker, PatchMasker, SpatialMasker, UnevenPatchMasker
from .policy_masker import BlockMasker, HeadMasker, PolicyMasker, TokenMasker
from .squeeze_excitation import SqueezeExcitation
from .squeeze_masker import SqueezeMasker, make_masker
from .trace import BlockTrace

__all__ = [
    'ATTENTION',
    'MLP',
    'BLOCKS',
    'HEADS',
    'TOKENS',
    'POLICIES',
    'EncoderBlock',
    'EncoderBranch',
    'BlockMasker',
    'HeadMasker',
    'PolicyMasker',
    'TokenMasker',
    'BRANCH',
    'CHANNELS',
    'DILATED',
    'PAIRS',
    'SITES',
    'BlockTrace',
    'Branch',
    'BranchMasker',
    'ChannelMasker',
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
    'SpatialMasker',
    'SqueezeExcitation',
    'SqueezeMasker',
    'Step',
    'UnevenPatchMasker',
    'Work',
    'channel_shares',
    'check_channel_masker',
    'conv_macs',
    'convs_of',
    'make_masker',
]
