"""The rates of a training: by block, by stage, and beside those that inference would take."""

import torch
from torch import Tensor

from las_mm.layers import (
    ATTENTION,
    BLOCKS,
    BRANCH,
    CHANNELS,
    HEADS,
    MLP,
    SITES,
    TOKENS,
    BlockTrace,
)
from las_mm.models import DynamicBackbone

from .learning import Forward

# What the mean rate of each axis is logged as.
RATES = {
    SITES: 'activation_rate',
    CHANNELS: 'channel_rate',
    TOKENS: 'token_rate',
    HEADS: 'head_rate',
    BLOCKS: 'block_rate',
}
LAST_PART = 0.9  # share of training from which on sampled decisions should be those of inference
LARGEST_GAP = 0.05  # between their shares


def decides(trace: BlockTrace, axis: str) -> bool:
    """Whether a block decides on an axis; blocks computed whole or not at all on ``'sites'``."""
    return axis in {SITES if d.axis == BRANCH else d.axis for d in trace.decisions}


def rate_of(trace: BlockTrace, axis: str) -> Tensor:
    """(N,) share of an axis that a block computed.

    ``'tokens'`` include those besides the patches', which are always kept; of ``'blocks'`` it is
    the mean of attention and MLP.
    """
    if axis == BLOCKS:
        return (trace.shares[ATTENTION] + trace.shares[MLP]) / 2
    return trace.activation_rate if axis == SITES else trace.shares[axis]


def mean_rates(forwards: list[Forward]) -> dict[str, Tensor]:
    """The rate of each block that decides on an axis, over the images of all forwards.

    Returns:
        By the axis, one of ``RATES``, a tensor (blocks,).
    """
    blocks = list(zip(*(forward.traces for forward in forwards), strict=True))
    found = {
        axis: [
            torch.cat([rate_of(trace, axis) for trace in traces]).mean()
            for traces in blocks
            if decides(traces[0], axis)
        ]
        for axis in RATES
    }
    return {axis: torch.stack(rates) for axis, rates in found.items() if rates}


def stage_rates(rates: dict[str, Tensor], traces: list[BlockTrace]) -> dict[str, Tensor]:
    """The mean rate of each stage that decides on an axis, by the names that are logged.

    Args:
        rates: Of the blocks, as :func:`mean_rates` gives them.
        traces: Of all blocks.
    """
    logged = {}
    for axis, of_axis in rates.items():
        stages = [trace.stage for trace in traces if decides(trace, axis)]
        for stage in dict.fromkeys(stages):
            where = [index for index, other in enumerate(stages) if other == stage]
            logged[f'{RATES[axis]}_{stage + 1}'] = of_axis.detach()[where].mean()
    return logged


class NoiseGap:
    """How far sampled decisions are from those of inference, at the end of a training.

    Noise has the same spread at every temperature: a masker that was trained for a short time
    leaves many decisions to it, and inference, which takes none of it, then computes another share
    than the one that was pulled to the target.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sampled: float | Tensor = 0.0  # sums over forwards; numbers are read at the end
        self.noiseless: float | Tensor = 0.0

    def add(self, progress: float, backbone: DynamicBackbone, traces: list[BlockTrace]) -> None:
        """Note the decisions of a forward, if the training is in its last part.

        Args:
            progress: Share of training done.
            backbone: What ran.
            traces: What its blocks did.
        """
        if progress < LAST_PART:
            return
        masks = [decision.mask.detach() for trace in traces for decision in trace.decisions]
        maskers = [masker for block in backbone.blocks for masker in block.maskers]
        shares = [m.noiseless_share.float() for m in maskers if m.noiseless_share is not None]
        if masks and len(shares) == len(maskers):
            self.count += 1
            self.sampled += torch.stack([mask.float().mean() for mask in masks]).mean()
            self.noiseless += torch.stack(shares).mean()

    def warning(self, hook: str) -> str | None:
        """A line for the log, of a hook of this name; None if the decisions agree."""
        if not self.count:
            return None
        sampled, noiseless = float(self.sampled) / self.count, float(self.noiseless) / self.count
        if abs(sampled - noiseless) <= LARGEST_GAP:
            return None
        return (
            f'{hook}: in the last part of this training {sampled:.3f} of the decisions '
            f'were to compute, but without noise, as in inference, {noiseless:.3f}: the network '
            'computes another share than the target; train longer, or end without noise by '
            'noise_until=0.8 of GumbelTemperatureHook'
        )
