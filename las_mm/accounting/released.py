"""MACs as the training code released with LASNet and LAUDNet counts them, to repeat its runs.

It differs from the exact count of :mod:`las_mm.accounting.cost` in this:

- Shares are means over the batch before they are multiplied, and a grouped convolution costs the
  square of the share of channels.
- No gradient goes through the pixels that the first convolution computes; LAUDNet's has none
  through those of the second one, either.
- A block's maskers are in its dense cost, too. A patch masker's pooling counts the pooled pixels
  and its convolution three outputs; of a channel masker's 1×1 convolution each weight counts once.
- Squeeze-and-excitation is in the network's cost and not in that of its block.
- Max-pooling counts 9 a pixel. The average pooling before a classifier counts its outputs in F_dyn
  and its inputs in F_stat, which has the classifier's biases, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from las_mm.layers import (
    BRANCH,
    CHANNELS,
    DILATED,
    PAIRS,
    SITES,
    BlockTrace,
    ChannelMasker,
    DynamicBlock,
    Masker,
    SpatialMasker,
    SqueezeMasker,
)

CODES = ('lasnet', 'laudnet')


@dataclass(frozen=True)
class ReleasedRatios:
    """What the released losses are made of.

    Attributes:
        network: F_dyn / F_stat of the network, a scalar.
        blocks: (blocks,) q, the same of each block.
        macs: F_dyn, a scalar.
    """

    network: Tensor
    blocks: Tensor
    macs: Tensor


def released_ratios(
    blocks: Sequence[DynamicBlock],
    traces: Sequence[BlockTrace],
    fixed: int,
    code: str = 'laudnet',
    static_extra: int | None = None,
) -> ReleasedRatios:
    """The ratios of one forward.

    Args:
        blocks: The dynamic blocks, in order.
        traces: What they did.
        fixed: MACs outside of them, counted as above.
        code: Whose code, ``'lasnet'`` or ``'laudnet'``.
        static_extra: What F_stat has beyond that in classification, where it is the static
            network's; None in detection, where it has the maskers.
    """
    sparse, dense, gates, ours = [], [], [], []
    for block, trace in zip(blocks, traces, strict=True):
        works = block.branch.works(trace.input_size, [d.axis for d in trace.decisions])
        maskers = sum(_masker_macs(masker, trace.input_size) for masker in block.maskers)
        gated = [work for work in works if work.name.startswith('gate.')]
        others = [work for work in works if work not in gated]
        last = block.branch.steps[-1].name
        macs = sum(
            work.macs
            * _batch_share(trace, work.runs_at, learns=code == 'lasnet' or work.name == last)
            for work in others
        )
        sparse.append(torch.as_tensor(macs + maskers, dtype=torch.float32))
        dense.append(sum(work.macs for work in others) + maskers)
        gates.append(sum(work.macs for work in gated))
        ours.append(maskers)
    macs = torch.stack([s.to(sparse[-1].device) for s in sparse])
    total = fixed + sum(gates) + macs.sum()
    static = fixed + sum(gates) + sum(dense)
    if static_extra is not None:
        static += static_extra - sum(ours)
    return ReleasedRatios(total / static, macs / macs.new_tensor(dense), total)


def _batch_share(trace: BlockTrace, runs_at: Sequence[str], learns: bool) -> Tensor | float:
    """The product of the batch's mean shares; ``learns`` says whether that of pixels does."""
    share: Tensor | float = 1.0
    for name in runs_at:
        mean = trace.shares[CHANNELS if name == PAIRS else name].mean()
        if name == PAIRS:
            mean = mean.square()
        elif name == DILATED or name in (SITES, BRANCH) and not learns:
            mean = mean.detach()
        share = share * mean
    return share


def _masker_macs(masker: Masker, input_size: tuple[int, int]) -> int:
    if isinstance(masker, SpatialMasker) and not isinstance(masker, SqueezeMasker):
        return 4 * masker.conv.in_channels * prod(masker.grid(input_size))
    if isinstance(masker, ChannelMasker) and masker.linear is not None:
        convolution, linear = masker.conv[0], masker.linear
        pixels = convolution.out_channels * prod(input_size)
        return pixels + convolution.weight.numel() + linear.weight.numel()
    return masker.macs(input_size)


def released_fixed_macs(stem: Sequence[tuple[nn.Module, tuple[int, int]]]) -> int:
    """MACs of a stem.

    Args:
        stem: Each layer with the (H, W) of its output.
    """
    macs, channels = 0, 0
    for layer, size in stem:
        if isinstance(layer, nn.Conv2d):
            channels = layer.out_channels
            macs += layer.weight.numel() * prod(size)
        elif isinstance(layer, nn.MaxPool2d):
            macs += 9 * channels * prod(size)
    return macs
