"""The rates of a training: by block, by stage, and beside those that inference would take."""

import torch
from torch import Tensor

from las_mm.layers import CHANNELS, SITES, BlockTrace
from las_mm.models import DynamicBackbone

from .learning import Forward

# What the mean rate of each axis is logged as.
RATES = {SITES: 'activation_rate', CHANNELS: 'channel_rate'}
LAST_PART = 0.9  # share of training from which on sampled decisions should be those of inference
LARGEST_GAP = 0.05  # between their shares


def mean_rates(forwards: list[Forward]) -> dict[str, Tensor]:
    """The rate of each block that decides on an axis, over the images of all forwards.

    Returns:
        By the axis, ``'sites'``, which includes blocks computed whole or not at all, or
        ``'channels'``, a tensor (blocks,).
    """
    found = {axis: _rates_of(axis, forwards) for axis in RATES}
    return {axis: torch.stack([rate for _, rate in r]) for axis, r in found.items() if r}


def stage_rates(forwards: list[Forward]) -> dict[str, Tensor]:
    """The mean rate of each stage that decides on an axis, by the names that are logged."""
    logged = {}
    for axis, name in RATES.items():
        rates = _rates_of(axis, forwards)
        for stage in dict.fromkeys(stage for stage, _ in rates):
            of_stage = [rate.detach() for other, rate in rates if other == stage]
            logged[f'{name}_{stage + 1}'] = torch.stack(of_stage).mean()
    return logged


def _rates_of(axis: str, forwards: list[Forward]) -> list[tuple[int, Tensor]]:
    """Stage and rate of each block that decides on an axis."""
    blocks = list(zip(*(forward.traces for forward in forwards), strict=True))
    return [
        (traces[0].stage, torch.cat([getattr(t, RATES[axis]) for t in traces]).mean())
        for traces in blocks
        if (traces[0].spatial if axis == SITES else traces[0].channels)
    ]


class NoiseGap:
    """How far sampled decisions are from those of inference, at the end of a training.

    Noise has the same spread at every temperature: a masker that was trained for a short time
    leaves many decisions to it, and inference, which takes none of it, then computes another share
    than the one that was pulled to the target.
    """

    def __init__(self) -> None:
        self.sampled: list[Tensor] = []
        self.noiseless: list[Tensor] = []

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
            self.sampled.append(torch.stack([mask.float().mean() for mask in masks]).mean())
            self.noiseless.append(torch.stack(shares).mean())

    def warning(self) -> str | None:
        """A line for the log; None if the decisions agree."""
        if not self.sampled:
            return None
        sampled = float(torch.stack(self.sampled).mean())
        noiseless = float(torch.stack(self.noiseless).mean())
        if abs(sampled - noiseless) <= LARGEST_GAP:
            return None
        return (
            f'SparsityLossHook: in the last part of this training {sampled:.3f} of the decisions '
            f'were to compute, but without noise, as in inference, {noiseless:.3f}: the network '
            'computes another share than the target; train longer, or end without noise by '
            'noise_until=0.8 of GumbelTemperatureHook'
        )
