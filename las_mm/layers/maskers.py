"""The maskers: what of a block's output is worth computing (Sec. 3.2)."""

from dataclasses import replace
from math import prod
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from las_mm.ops import conv_size, gumbel_decision
from las_mm.ops.gradients import is_recorded

from .decision import BRANCH, SITES, Decision


class Masker(nn.Module):
    """Decides, from a block's input, what of the block is computed for each image.

    Attributes:
        axis: What it decides on, see :class:`~las_mm.layers.Decision`.
        granularity: The grain of its decisions, see :class:`~las_mm.layers.Decision`; None if one
            is for all.
        temperature: τ of Eq. 1.
        noise: Whether training samples.
        decided: (N or 1, ...) coarse mask to take in inference instead of the own decision, which
            is still computed: replays masks at their real cost. None, as usual, decides.
        noiseless_share: Of the last forward in training, the share of decisions to keep that
            inference would take, without noise; a scalar, None before.
    """

    axis: ClassVar[str]
    granularity: int | None = None
    decided: Tensor | None = None
    noiseless_share: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.0
        self.noise = True

    @property
    def dtype(self) -> torch.dtype:
        """Of the decisions: that of the parameters."""
        return next(self.parameters()).dtype

    def init_weights(self) -> None:
        """Reset weights and biases; also mmengine's hook, called after a backbone's own init."""
        raise NotImplementedError

    def logits(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Keep and skip logits of each entry of the mask: (N, C, H, W) -> (N, 2, ...).

        Never in reduced precision under autocast: a rounding must not decide.

        Args:
            x: The block's input.
            pooled: Averages of x over the masker's windows, if they are known.
        """
        raise NotImplementedError

    def margin(self, x: Tensor) -> Tensor:
        """A number with the sign of keep minus skip logit: (N, C, H, W) -> (N, 1, ...).

        In double precision, where products of single-precision numbers are exact: whichever
        executor sums them, and in whichever order, the sign is the same.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Decide: (N, C, H, W) -> mask in {0, 1}, sampled in training if ``noise``.

        ``pooled`` is for :meth:`logits`.
        """
        if self.training:
            logits = self.logits(x, pooled)
            kept = logits.detach()[:, :1] >= logits.detach()[:, 1:]
            self.__dict__['noiseless_share'] = kept.to(logits.dtype).mean()
            return self.shape_mask(gumbel_decision(logits, self.temperature, self.noise))
        mask = self.shape_mask((self.margin(x) >= 0).to(self.dtype))
        return mask if self.decided is None else self.decided.to(mask).expand_as(mask)

    def shape_mask(self, mask: Tensor) -> Tensor:
        """(N, 1, ...) -> the shape that the axis' decisions have."""
        return mask

    def macs(self, input_size: tuple[int, int]) -> int:
        """MACs of pooling and logits for one image, given (H, W) of the block's input."""
        raise NotImplementedError

    def decision(self, mask: Tensor, size: tuple[int, int]) -> Decision:
        """What a mask of this masker means for an output of (H', W') pixels."""
        return Decision(self.axis, mask.to(self.dtype), self.granularity, size)


class SpatialMasker(Masker):
    """Average pooling, then a 1×1 convolution to two logits, keep and skip.

    Args:
        in_channels: Channels of the block's input.
        keep_bias: Initial bias of the keep logit; larger than ``skip_bias`` so that training
            starts with nearly everything active.
        skip_bias: Initial bias of the skip logit.

    Attributes:
        window: Edge of the pooling windows in pixels of the input; None for a single one.
        recorded_margins: Precision of decisions in exported and traced networks; in float32 some
            near zero may fall otherwise.
    """

    window: int | None = None
    recorded_margins: torch.dtype = torch.float64

    def __init__(self, in_channels: int, keep_bias: float = 5.0, skip_bias: float = 1.0) -> None:
        super().__init__()
        self.biases = (keep_bias, skip_bias)
        self.conv = nn.Conv2d(in_channels, 2, kernel_size=1)
        self.init_weights()

    def init_weights(self) -> None:
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

    def grid(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the mask for an input of (H, W)."""
        return (1, 1) if self.window is None else conv_size(input_size, self.window)

    def logits(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
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
        """Keep minus skip logit, times the pixels of the window: (N, C, H, W) -> (N, 1, h, w)."""
        weight, bias = self.difference()
        with torch.autocast(x.device.type, enabled=False):
            if is_recorded():  # engines have products of matrices in double, and no convolutions
                x, weight, bias = (part.to(self.recorded_margins) for part in (x, weight, bias))
                return self.total((x.movedim(1, -1) @ weight + bias).unsqueeze(1))
            return self.total(F.conv2d(x.double(), weight.view(1, -1, 1, 1)) + bias)

    def macs(self, input_size: tuple[int, int]) -> int:
        grid = self.grid(input_size)
        return self.conv.in_channels * prod(input_size) + self.conv.weight.numel() * prod(grid)


class PatchMasker(SpatialMasker):
    """Decides for each S×S patch of the block's output.

    The windows are the patches, that is (S·stride)² pixels of the input; the last row and column
    of windows average over what lies inside the image.

    Args:
        in_channels: Channels of the block's input.
        granularity: S.
        stride: Stride of the block.
        biases: ``keep_bias`` and ``skip_bias`` of :class:`~las_mm.layers.SpatialMasker`.
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
        if is_recorded():  # for any input size: pooling that rounds up asks whether it divides it
            padded = F.pad(x, [0, -x.shape[3] % self.window, 0, -x.shape[2] % self.window])
            tiles = padded.unflatten(3, (-1, self.window)).unflatten(2, (-1, self.window))
            return tiles.sum((3, 5))
        return F.avg_pool2d(x, self.window, ceil_mode=True, divisor_override=1)

    def extra_repr(self) -> str:
        return f'granularity={self.granularity}, window={self.window}'


class UnevenPatchMasker(PatchMasker):
    """Decides for floor(H'/S) × floor(W'/S) cells that share the output evenly.

    The grid of the authors' detection code, whose checkpoints need it where S does not divide the
    feature: cells are a pixel or so larger than S instead of being cut. It runs densely.
    """

    def grid(self, input_size: tuple[int, int]) -> tuple[int, int]:
        height, width = conv_size(input_size, self.window // self.granularity)
        return max(height // self.granularity, 1), max(width // self.granularity, 1)

    def average(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.grid((x.shape[2], x.shape[3])))

    def total(self, x: Tensor) -> Tensor:
        return self.average(x)

    def logits(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        return super().logits(x)  # what is known are averages over other windows

    def decision(self, mask: Tensor, size: tuple[int, int]) -> Decision:
        return replace(super().decision(mask, size), uneven=True)


class BranchMasker(SpatialMasker):
    """Decides for the whole block, whatever its size: layer skipping, LAUDNet's coarsest mask."""

    axis = BRANCH

    def average(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    def total(self, x: Tensor) -> Tensor:
        return x.sum((2, 3), keepdim=True)
