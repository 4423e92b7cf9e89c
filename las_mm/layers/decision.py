"""Decision: what a masker chose to compute, along which axis and how coarsely."""

from dataclasses import dataclass
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor

from las_mm.ops import upsample_mask

SITES, BRANCH, CHANNELS = 'sites', 'branch', 'channels'
# Of transformers; blocks are their attention and MLP, each for itself.
TOKENS, HEADS, BLOCKS = 'tokens', 'heads', 'blocks'


@dataclass(frozen=True)
class Decision:
    """One masker's decision for a batch; differentiable in training.

    Attributes:
        axis: What is skipped: ``'sites'``, pixels of the output, ``'branch'``, all of it, or
            ``'channels'``, those between the convolutions; in transformers ``'tokens'``,
            ``'heads'`` or ``'blocks'``, attention and MLP.
        mask: Coarse mask in {0, 1}: (N, 1, h, w) for sites, (N, 1, 1, 1) for the whole branch,
            (N, K) for K groups of channels; (N, 1, h, w) for tokens of a grid, (N, H) for heads,
            (N, 2) for attention and MLP.
        grain: S, edge of a patch in pixels of the output, or the channels of a group; None if one
            entry decides for all.
        size: What the mask is spread over: (H', W') of the output, or (C,) channels.
        uneven: Whether the patches share the output evenly, as nearly as they can, where S does not
            divide it, instead of the last ones being cut.
    """

    axis: str
    mask: Tensor
    grain: int | None
    size: tuple[int, ...]
    uneven: bool = False

    @cached_property
    def pixels(self) -> Tensor:
        """(N, 1, H', W'): the mask spread over the output's pixels; the last patches are cut."""
        if self.grain is None:
            return self.mask.expand(-1, -1, *self.size)
        if self.uneven:
            return F.interpolate(self.mask, self.size)
        return upsample_mask(self.mask, self.grain, (self.size[0], self.size[1]))

    @cached_property
    def channels(self) -> Tensor:
        """(N, C, 1, 1): the mask spread over the channels."""
        return self.mask.repeat_interleave(self.grain or 1, 1)[..., None, None]

    @cached_property
    def share(self) -> Tensor:
        """(N,) share of the axis that is computed, in single precision; r of Sec. 3.1 for sites."""
        if self.grain is None or self.axis == CHANNELS:
            return self.mask.float().flatten(1).mean(1)
        return self.pixels.float().mean((1, 2, 3))
