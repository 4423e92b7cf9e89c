"""DynConv's masker: a logit for each pixel, of its surroundings and of the whole feature."""

from math import prod
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_mm.ops import conv_size

from .decision import SITES
from .maskers import BranchMasker, Masker, PatchMasker, SpatialMasker, UnevenPatchMasker

GRIDS = {'fixed': PatchMasker, 'adaptive': UnevenPatchMasker}


class SqueezeMasker(SpatialMasker):
    """A 3×3 convolution with the block's stride plus a linear layer of the mean, to one logit.

    A pixel is kept where the logit is not negative. (Verelst and Tuytelaars, 2020, Sec. 3.1.)

    Args:
        in_channels: Channels of the block's input.
        stride: Stride of the block.
    """

    axis = SITES
    granularity = 1
    window = None

    def __init__(self, in_channels: int, stride: int = 1) -> None:
        Masker.__init__(self)
        self.conv = nn.Conv2d(in_channels, 1, 3, stride, padding=1)
        self.fc = nn.Linear(in_channels, 1)

    def init_weights(self) -> None:
        """Reset weights and biases to PyTorch's usual ones, as the authors start."""
        self.conv.reset_parameters()
        self.fc.reset_parameters()

    def logit(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H', W'), in the precision of the weights whatever x has."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.conv.weight.dtype)
            return self.conv(x) + self.fc(x.mean((2, 3)))[..., None, None]

    def logits(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """The logit and zero, as those of keep and skip: (N, C, H, W) -> (N, 2, H', W')."""
        logit = self.logit(x)
        return torch.cat([logit, torch.zeros_like(logit)], 1)

    def difference(self) -> tuple[Tensor, Tensor]:
        """There is none: one row of weights does not decide."""
        raise NotImplementedError('a SqueezeMasker decides by more than one row of weights')

    def margin(self, x: Tensor) -> Tensor:
        """The logit in double precision, so that no order of summation changes its sign."""
        bias = cast(Tensor, self.conv.bias)
        with torch.autocast(x.device.type, enabled=False):
            x = x.double()
            weight = self.conv.weight.double()
            local = F.conv2d(x, weight, bias.double(), self.conv.stride, padding=1)
            means = F.linear(x.mean((2, 3)), self.fc.weight.double(), self.fc.bias.double())
            return local + means[..., None, None]

    def grid(self, input_size: tuple[int, int]) -> tuple[int, int]:
        return conv_size(input_size, self.conv.stride[0])

    def macs(self, input_size: tuple[int, int]) -> int:
        """MACs of the convolution, of the mean and of the linear layer for one image."""
        channels, pixels = self.conv.in_channels, prod(self.grid(input_size))
        return self.conv.weight.numel() * pixels + channels * prod(input_size) + channels


def make_masker(
    granularity: int | str,
    in_channels: int,
    stride: int,
    kind: str = 'pool',
    grid: str = 'fixed',
    **options: Any,
) -> SpatialMasker:
    """The masker of a block.

    Args:
        granularity: S, or ``'all'`` for one that decides for the whole block.
        in_channels: Channels of the block's input.
        stride: Stride of the block.
        kind: ``'pool'``, the mean of each patch and a 1×1 convolution, or ``'squeeze'``, DynConv's,
            for single pixels.
        grid: ``'fixed'`` patches of S×S pixels, or ``'adaptive'`` ones, see
            :class:`~las_mm.layers.UnevenPatchMasker`.
        options: Further arguments of the masker.

    Raises:
        TypeError, ValueError: If an argument is not one of the allowed ones.
    """
    if grid not in GRIDS:
        raise ValueError(f'masker.grid: got {grid!r}; choose one of {", ".join(GRIDS)}')
    if kind == 'squeeze':
        if granularity != 1:
            raise ValueError(
                f"granularity: got {granularity!r} with masker kind 'squeeze', which decides for "
                "each pixel; give 1 for every stage, or masker=dict(kind='pool')"
            )
        if options:
            raise ValueError(
                f"masker: got {next(iter(options))!r} with kind 'squeeze', which has no such "
                'option; leave it out'
            )
        return SqueezeMasker(in_channels, stride)
    if kind != 'pool':
        raise ValueError(f'masker.kind: got {kind!r}; choose one of pool, squeeze')
    if isinstance(granularity, str):
        return BranchMasker(in_channels, **options)
    return GRIDS[grid](in_channels, granularity, stride, **options)
