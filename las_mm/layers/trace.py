"""BlockTrace: what one dynamic block did in one forward."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from las_mm.ops import conv_size

from .branch import DILATED, Branch
from .decision import BRANCH, CHANNELS, HEADS, SITES, TOKENS, Decision


@dataclass(frozen=True)
class BlockTrace:
    """The decisions of one block in its last forward, and the shares that follow from them.

    Shares are differentiable in training; they are computed when first asked for, so that plain
    inference does not pay for them.

    Attributes:
        name: The block's name in the backbone, such as ``layer1.0``.
        stage: Its stage, from 0.
        decisions: What its maskers decided.
        branch: What it computes.
        input_size: (H, W) of its input.
        images: N.
    """

    name: str
    stage: int
    decisions: tuple[Decision, ...]
    branch: Branch
    input_size: tuple[int, int]
    images: int

    @cached_property
    def shares(self) -> dict[str, Tensor]:
        """(N,) share of every axis that the block decides on, and ``'dilated'`` for sites."""
        return self.branch.shares(self.decisions, self.input_size)

    @property
    def spatial(self) -> Decision | None:
        """The decision on the output's pixels, or tokens, if there is one."""
        return next((d for d in self.decisions if d.axis in (SITES, BRANCH, TOKENS)), None)

    @property
    def channels(self) -> Decision | None:
        """The decision on the channels between the convolutions, or heads, if there is one."""
        return next((d for d in self.decisions if d.axis in (CHANNELS, HEADS)), None)

    @property
    def mask(self) -> Tensor:
        """(N, 1, h, w) coarse mask in {0, 1}; (N, 1, 1, 1) where the block decides as a whole.

        Ones where it decides on no pixels.
        """
        return self._ones(1, 1, 1) if self.spatial is None else self.spatial.mask

    def _ones(self, *shape: int) -> Tensor:
        device = self.branch.steps[0].op.weight.device
        return torch.ones(self.images, *shape, device=device)

    @property
    def granularity(self) -> int | None:
        """S; None where the block decides as a whole, or not at all."""
        return None if self.spatial is None else self.spatial.grain

    @property
    def size(self) -> tuple[int, int]:
        """(H', W') of the block's output."""
        return conv_size(self.input_size, self.branch.stride)

    @property
    def pixel_mask(self) -> Tensor:
        """(N, 1, H', W'): the output pixels that were computed."""
        spatial = self.spatial
        return self.mask.expand(-1, -1, *self.size) if spatial is None else spatial.pixels

    @property
    def activation_rate(self) -> Tensor:
        """(N,) share of the output pixels computed, r of Sec. 3.1; one if none can be skipped."""
        return self._ones() if self.spatial is None else self.spatial.share

    @property
    def channel_rate(self) -> Tensor:
        """(N,) share of the inner channels computed; one if none can be skipped."""
        return self._ones() if self.channels is None else self.channels.share

    @property
    def dilated_rate(self) -> Tensor:
        """(N,) share of the first convolution's output pixels that the second one reads."""
        return self.shares.get(DILATED, self.activation_rate)

    def with_mask(self, mask: Tensor) -> 'BlockTrace':
        """The same with another spatial mask; its shares are computed anew."""
        changed = tuple(replace(d, mask=mask) if d is self.spatial else d for d in self.decisions)
        return replace(self, decisions=changed)
