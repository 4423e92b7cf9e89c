"""The maskers: what of a block's output is worth computing (Sec. 3.2)."""

from collections.abc import Sequence
from math import prod
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from las_mm.ops import gumbel_decision

from .decision import BRANCH, SITES, Decision


class Masker(nn.Module):
    """Average pooling, then a 1×1 convolution to two logits, keep and skip.

    Args:
        in_channels: Channels of the block's input.
        keep_bias: Initial bias of the keep logit; larger than ``skip_bias`` so that training
            starts with nearly everything active.
        skip_bias: Initial bias of the skip logit.

    Attributes:
        axis: What it decides on, see :class:`~las_mm.layers.Decision`.
        granularity: S, edge of a patch in pixels of the block's output; None if it decides for all.
        window: Edge of the pooling windows in pixels of the input; None for a single one.
        decided: (N or 1, 1, h, w) mask to take in inference instead of the own decision, which is
            still computed: replays masks at their real cost. None, as usual, decides.
    """

    axis: ClassVar[str]
    granularity: int | None = None
    window: int | None = None
    decided: Tensor | None = None

    def __init__(self, in_channels: int, keep_bias: float = 5.0, skip_bias: float = 1.0) -> None:
        super().__init__()
        self.biases = (keep_bias, skip_bias)
        self.temperature = 1.0
        self.noise = True
        self.conv = nn.Conv2d(in_channels, 2, kernel_size=1)
        self.init_weights()

    def init_weights(self) -> None:
        """Reset weights and biases; also mmengine's hook, called after a backbone's own init."""
        self.conv.reset_parameters()
        with torch.no_grad():
            self._bias.copy_(torch.tensor(self.biases))

    @property
    def _bias(self) -> Tensor:
        return cast(Tensor, self.conv.bias)

    def average(self, x: Tensor) -> Tensor:
        """Means over the windows: (N, C, H, W) -> (N, C, h, w)."""
        raise NotImplementedError

    def total(self, x: Tensor) -> Tensor:
        """Sums over the windows: (N, C, H, W) -> (N, C, h, w)."""
        raise NotImplementedError

    def logits(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Keep and skip logits of each window: (N, C, H, W) -> (N, 2, h, w).

        Never in reduced precision under autocast: a rounding must not decide a patch.

        Args:
            x: The block's input.
            pooled: (N, C, h, w) averages of x over the windows, if they are known.
        """
        if pooled is not None:
            return self._project(pooled)
        if x.dtype == self.conv.weight.dtype:
            return self._logits(x)
        # Computed again in the backward pass, which would else need the input in both precisions.
        return checkpoint(self._logits, x, use_reentrant=False, preserve_rng_state=False)

    def _logits(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = self.average(x.to(self.conv.weight.dtype))
        return self._project(x)

    def _project(self, pooled: Tensor) -> Tensor:
        with torch.autocast(pooled.device.type, enabled=False):
            return self.conv(pooled)

    def difference(self) -> tuple[Tensor, Tensor]:
        """The weight row (C,) and bias () whose sign decides in inference (Eq. 3), in double."""
        weight, bias = self.conv.weight.detach().double(), self._bias.detach().double()
        return (weight[0] - weight[1]).flatten(), bias[0] - bias[1]

    def margin(self, x: Tensor) -> Tensor:
        """Keep minus skip logit, times the pixels of the window: (N, C, H, W) -> (N, 1, h, w).

        In double precision, where products of single-precision numbers are exact: whichever
        executor sums them, and in whichever order, the sign is the same.
        """
        weight, bias = self.difference()
        with torch.autocast(x.device.type, enabled=False):
            return self.total(F.conv2d(x.double(), weight.view(1, -1, 1, 1)) + bias)

    def forward(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Decide: (N, C, H, W) -> mask (N, 1, h, w) in {0, 1}, sampled in training if ``noise``.

        ``pooled`` is for :meth:`logits`.
        """
        if self.training:
            return gumbel_decision(self.logits(x, pooled), self.temperature, self.noise)
        mask = (self.margin(x) >= 0).to(self.conv.weight.dtype)
        return mask if self.decided is None else self.decided.to(mask).expand_as(mask)

    def macs(self, input_size: tuple[int, int], grid: Sequence[int]) -> int:
        """MACs of pooling and logits for one image, given (H, W) and the grid (h, w)."""
        return self.conv.in_channels * prod(input_size) + self.conv.weight.numel() * prod(grid)

    def decision(self, mask: Tensor, size: tuple[int, int]) -> Decision:
        """What a mask of this masker means for an output of (H', W') pixels."""
        mask = mask.to(self.conv.weight.dtype)
        return Decision(self.axis, mask, self.granularity, size)


class PatchMasker(Masker):
    """Decides for each S×S patch of the block's output.

    The windows are the patches, that is (S·stride)² pixels of the input; the last row and column
    of windows average over what lies inside the image.

    Args:
        in_channels: Channels of the block's input.
        granularity: S.
        stride: Stride of the block.
        biases: ``keep_bias`` and ``skip_bias`` of :class:`~las_mm.layers.Masker`.
    """

    axis = SITES
    granularity: int
    window: int

    def __init__(
        self, in_channels: int, granularity: int, stride: int = 1, **biases: float
    ) -> None:
        super().__init__(in_channels, **biases)
        self.granularity, self.window = granularity, granularity * stride

    def average(self, x: Tensor) -> Tensor:
        if self.window == 1:
            return x
        return F.avg_pool2d(x, self.window, ceil_mode=True, count_include_pad=False)

    def total(self, x: Tensor) -> Tensor:
        if self.window == 1:
            return x
        return F.avg_pool2d(x, self.window, ceil_mode=True, divisor_override=1)

    def extra_repr(self) -> str:
        return f'granularity={self.granularity}, window={self.window}'


class BranchMasker(Masker):
    """Decides for the whole block, whatever its size: layer skipping, LAUDNet's coarsest mask."""

    axis = BRANCH

    def average(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    def total(self, x: Tensor) -> Tensor:
        return x.sum((2, 3), keepdim=True)
