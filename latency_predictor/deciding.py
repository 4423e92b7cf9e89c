"""Channels and whole blocks skipped: who decides, and what is left to run (LAUDNet).

A block with fewer inner channels is a narrower block: the active ones are stored together. What a
skipped channel of a ResNet adds (a constant, as masks stand before the norm) is a bias for each
border of the map, far below a thousandth of the work, and is not counted.
"""

from dataclasses import replace
from math import ceil

from . import operators as ops
from .checks import require_one_of
from .macs import LOGITS, channel_masker_widths
from .operators.operator import Operator
from .spec import BRANCH, CHANNELS, WHOLE, BlockSpec, LayerSpec

# What LAUDNet skips: patches, whole blocks, channels, or patches and channels at once.
MODES = ('spatial', 'layer', 'channel', 'joint')


def in_mode(block: BlockSpec, mode: str, channel_group: int = 1) -> BlockSpec:
    """The block as it decides in one of ``MODES``; without a shortcut it skips channels alone.

    Args:
        block: The block; its granularity is kept where patches are skipped.
        mode: Which.
        channel_group: Channels per decision, where there are any.

    Raises:
        ValueError: If the mode or the group is not one of the allowed ones.
    """
    require_one_of('mode', mode, MODES)
    granularity = {'layer': WHOLE, 'channel': None}.get(mode, block.granularity)
    if block.join == 'none':
        granularity = None
    groups = channel_group if mode in ('channel', 'joint') else None
    return replace(block, granularity=granularity, channel_group=groups)


def deciding_operators(block: BlockSpec, batch_size: int = 1) -> list[Operator]:
    """The maskers of channels and of the whole block: one mean of the input, small perceptrons."""
    if not {BRANCH, CHANNELS} & block.decided:
        return []
    inputs = block.in_channels
    result = [ops.global_pool('masker_pool', inputs, block.input_size, batch_size, batch_size)]
    if BRANCH in block.decided:
        result.append(ops.fully_connected('masker_fc', inputs, LOGITS, batch_size))
    if CHANNELS in block.decided:
        hidden, outputs = channel_masker_widths(block)
        result += [
            ops.fully_connected('masker_fc1', inputs, hidden, batch_size),
            ops.fully_connected('masker_fc2', hidden, outputs, batch_size),
        ]
    return result


def narrowed(block: BlockSpec, share: float) -> BlockSpec:
    """The block with a share of its inner channels, no longer deciding on them.

    Args:
        block: The block.
        share: c in [0, 1]; whole groups of channels, at least one, are counted.
    """
    active = _active_channels(block, share)
    layers, inner = [], False
    for layer in block.layers:
        inside, inner = inner, _puts_out_inner(layer, inner)
        if layer.is_depthwise and CHANNELS in layer.runs_at:
            inside = inner = True
        layers.append(
            replace(
                layer,
                in_channels=active if inside else layer.in_channels,
                out_channels=active if inner else layer.out_channels,
                groups=_groups(block, layer, active) if inside else layer.groups,
            )
        )
    return replace(block, layers=tuple(layers), channel_group=None)


def _puts_out_inner(layer: LayerSpec, reads_inner: bool) -> bool:
    """Whether a layer's outputs are inner channels, given whether its inputs are."""
    if layer.kind != 'conv':
        return reads_inner
    return layer.runs_at.count(CHANNELS) > reads_inner


def _active_channels(block: BlockSpec, share: float) -> int:
    """Inner channels that run: whole decisions, and as many in each group of a grouped layer."""
    whole, group = block.inner_channels, block.channel_group or block.inner_channels
    active = max(group, ceil(share * whole / group - 1e-9) * group)
    for layer in block.convs:
        if CHANNELS in layer.runs_at and group % (whole // layer.groups):
            active = ceil(active / layer.groups) * layer.groups
    return min(active, whole)


def _groups(block: BlockSpec, layer: LayerSpec, active: int) -> int:
    """Groups that are left: fewer of them where a decision is about whole ones."""
    width = layer.in_channels // layer.groups
    whole = (block.channel_group or 1) % width == 0
    return active // width if whole and layer.groups > 1 else layer.groups
