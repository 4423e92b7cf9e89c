"""Decision: what a masker chose to compute, along which axis and how coarsely."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from las_mm.ops import upsample_mask

SITES, BRANCH = 'sites', 'branch'


@dataclass(frozen=True)
class Decision:
    """One masker's decision for a batch; differentiable in training.

    Attributes:
        axis: What is skipped: ``'sites'``, pixels of the output, or ``'branch'``, all of it.
        mask: (N, 1, h, w) coarse mask in {0, 1}; (N, 1, 1, 1) for the whole branch.
        grain: S, edge of a patch in pixels of the output; None if one entry decides for all.
        size: (H', W') of what the mask is spread over.
    """

    axis: str
    mask: Tensor
    grain: int | None
    size: tuple[int, int]

    @cached_property
    def pixels(self) -> Tensor:
        """(N, 1, H', W'): the mask spread over the output's pixels; the last patches are cut."""
        if self.grain is None:
            return self.mask.expand(-1, -1, *self.size)
        return upsample_mask(self.mask, self.grain, self.size)

    @cached_property
    def share(self) -> Tensor:
        """(N,) share of the axis that is computed, in single precision; r of Sec. 3.1 for sites."""
        if self.grain is None:
            return self.mask.float().flatten(1).mean(1)
        return self.pixels.float().mean((1, 2, 3))
