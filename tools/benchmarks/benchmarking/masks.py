"""Masks to measure with: of a given rate, or of the rate that gives a ratio of MACs."""

from dataclasses import replace
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor

from las_mm.layers import BlockTrace
from las_mm.layers.decision import CHANNELS
from las_mm.models import DynamicBackbone

BISECTIONS = 14


def make_mask(
    grid: tuple[int, int], rate: float, seed: int, smooth: bool = True, batch: int = 1
) -> Tensor:
    """(batch, 1, h, w) masks: the highest values of noise, which is blurred if ``smooth``.

    Blurred ones have connected regions, as trained maskers make. The number of patches is rounded
    up or down by the seed, so that many small masks keep the rate.

    Args:
        grid: (h, w) of the mask.
        rate: Activation rate.
        seed: Seed of the noise.
        smooth: Whether to blur.
        batch: How many images, each with a mask of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    field = torch.rand(batch, 1, *grid, generator=generator)
    if smooth and min(grid) > 2:
        edge = max(3, max(grid) // 5 | 1)
        edge = min(edge, 2 * min(grid) - 1)
        padding = (edge // 2,) * 4
        field = F.avg_pool2d(F.pad(field, padding, mode='reflect'), edge, stride=1)
    field = field.flatten(1)
    count = int(rate * field.shape[1] + (0.5 + 0.618 * seed) % 1)
    highest = field.topk(min(count, field.shape[1])).indices
    return torch.zeros_like(field).scatter_(1, highest, 1.0).view(batch, 1, *grid)


def make_groups(like: Tensor, rate: float, seed: int) -> Tensor:
    """Like (N, K) decisions on groups of channels: a share of them, drawn anew for each image."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(like.shape, generator=generator).argsort(1)
    return (order < round(rate * like.shape[1])).to(like)


def _decide(trace: BlockTrace, rate: float, seed: int, smooth: bool) -> BlockTrace:
    """The block's trace, had each masker decided on that rate."""
    decisions = tuple(
        replace(d, mask=make_groups(d.mask, rate, seed))
        if d.axis == CHANNELS
        else replace(
            d, mask=make_mask(d.mask.shape[-2:], rate, seed, smooth, len(d.mask)).to(d.mask)
        )
        for d in trace.decisions
    )
    return replace(trace, decisions=decisions)


@torch.no_grad()
def decide_masks(backbone: DynamicBackbone, ratio: float, smooth: bool = True) -> dict[str, float]:
    """Give every masker a mask so that F_dyn/F_stat is ``ratio``.

    The rate is the same in every block and on every axis, and found by bisection. The backbone must
    have run before, on as many images of the size in question.

    Returns:
        The mean rates of active and dilated pixels, and the ratio of MACs that came out.
    """
    cost, traces = backbone.cost(), backbone.traces
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        rate = (low + high) / 2
        decided = [_decide(trace, rate, number, smooth) for number, trace in enumerate(traces)]
        reached = float(cost.dynamic([trace.shares for trace in decided]).mean()) / cost.static
        low, high = (rate, high) if reached < ratio else (low, rate)
    for block, trace in zip(backbone.blocks, decided, strict=True):
        masks = {decision.axis: decision.mask for decision in trace.decisions}
        for masker in block.maskers:
            masker.decided = masks[masker.axis]
    return {
        'activation_rate': mean(float(trace.activation_rate.mean()) for trace in decided),
        'dilated_rate': mean(float(trace.dilated_rate.mean()) for trace in decided),
        'macs_ratio': reached,
    }
