"""Weights in bfloat16 whose errors cancel."""

from math import isqrt

import torch
from torch import Tensor

ULP = 1 << 16  # of bfloat16, in the bits of a float


def round_weights(weight: Tensor) -> Tensor:
    """Round to bfloat16 so that the errors of each output channel and tap have a sum of about zero.

    Features after a ReLU have means far from zero; rounded to the nearest, weights add the sum of
    their errors times that mean to an output. Here those next to a tie go the other way instead.

    Args:
        weight: (C_out, C_in / groups, k, k) in single precision.

    Returns:
        The same in single precision, of numbers that bfloat16 has.
    """
    out_channels, depth = weight.shape[:2]
    rows = weight.flatten(2).transpose(1, 2).reshape(-1, depth)  # one for each output and tap
    nearest = rows.bfloat16().float()
    error = nearest - rows
    total = error.sum(1, keepdim=True)
    # The number on the other side, which takes the sum of errors towards zero.
    away = torch.where((error < 0) == (nearest > 0), ULP, -ULP)
    other = (nearest.view(torch.int32) + away.int()).view(torch.float32)
    step = other - nearest
    helps = (step * total < 0) & (nearest != 0) & other.isfinite()
    least = (other - rows).abs() - error.abs()  # added to the weight's own error
    cost = torch.where(helps, least / step.abs(), torch.inf)
    count = min(depth, 2 * isqrt(depth) + 2)  # more than a sum of so many errors is likely to need
    cost, places = cost.topk(count, 1, largest=False)
    steps = step.gather(1, places).where(cost.isfinite(), 0)
    gone = steps.cumsum(1) - steps / 2
    steps = steps.where(gone.abs() < total.abs(), 0)
    rounded = nearest.scatter_add(1, places, steps)
    return rounded.reshape(out_channels, -1, depth).transpose(1, 2).reshape(weight.shape)
