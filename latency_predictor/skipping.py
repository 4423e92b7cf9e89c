"""The other two dynamic paradigms, so that they can be compared: layer and channel skipping.

Both run dense kernels, so that granularity does not matter. A decision for the whole image (layer
skipping) is taken with probability r, and the latency is its expectation.
"""

from __future__ import annotations

from . import operators as ops
from .block import static_operators
from .operators import Operator
from .spec import BlockSpec

__all__ = ['SKIPPING_MODES', 'skipping_operators']

SKIPPING_MODES = ('spatial', 'layer', 'channel')

# Width of the channel masker's hidden layer relative to its outputs (squeeze-and-excitation's 16).
_REDUCTION = 16


def skipping_operators(
    block: BlockSpec, mode: str, rate: float, channel_group: int = 1, batch_size: int = 1
) -> list[tuple[float, Operator]]:
    """Operators of a block with the probability that each runs.

    Args:
        block: a bottleneck or basic block; its granularity is not used.
        mode: 'layer' (the block runs with probability ``rate`` or is skipped whole) or 'channel'
            (``rate`` of the block's inner channels are computed).
        rate: activation rate in [0, 1], a scalar.
        channel_group: channels that share one decision in channel skipping.
    """
    decision = _masker(
        block, 1 if mode == 'layer' else block.mid_channels // channel_group, batch_size
    )
    if mode == 'layer':
        return decision + [
            (1.0 if operator.name == 'shortcut' else rate, operator)
            for operator in static_operators(block, batch_size)
        ]
    return decision + [
        (1.0, _narrowed(block, operator, rate, channel_group, batch_size))
        for operator in static_operators(block, batch_size)
    ]


def _masker(block: BlockSpec, outputs: int, batch_size: int) -> list[tuple[float, Operator]]:
    """Global mean of the input and a small perceptron that decides."""
    size = block.source
    hidden = max(1, outputs // _REDUCTION)
    return [
        (1.0, operator)
        for operator in (
            ops.global_pool('masker_pool', block.in_channels, size, batch_size, batch_size),
            ops.fully_connected('masker_fc1', block.in_channels, hidden, batch_size),
            ops.fully_connected('masker_fc2', hidden, outputs, batch_size),
        )
    ]


def _narrowed(
    block: BlockSpec, operator: Operator, rate: float, group: int, batch_size: int
) -> Operator:
    """The operator with the block's inner channels reduced to the active ones."""
    outer, inner = block.in_channels, block.mid_channels
    output = (block.height, block.width)
    basic = block.kind == 'basic'
    common = {'granularity': group, 'patches': batch_size}
    if operator.name == 'conv1':
        kernel, stride, _ = block.conv1
        return ops.channel_dynamic_convolution(
            'conv1', outer, inner, *block.conv1_map, 1.0, rate, kernel, stride, **common
        )
    if operator.name == 'conv2':
        kept = 1.0 if basic else rate  # the second 3x3 of a basic block makes the output
        kernel, stride, _ = block.conv2
        return ops.channel_dynamic_convolution(
            'conv2', inner, inner, *output, rate, kept, kernel, stride, block.groups, **common
        )
    if operator.name == 'conv3':
        return ops.channel_dynamic_convolution(
            'conv3', inner, block.out_channels, *output, rate, 1.0, **common
        )
    return operator
