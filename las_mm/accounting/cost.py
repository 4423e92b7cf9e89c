"""What a dynamic network computes: multiply–accumulates (MACs) from static shapes and shares.

MACs are counted as OpenMMLab counts FLOPs: one multiply–accumulate of a convolution is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod

from torch import Tensor

from las_mm.layers import BlockTrace, DynamicBlock, Work

Shares = Mapping[str, Tensor | float]


@dataclass(frozen=True)
class BlockCost:
    """MACs of one block for one image.

    Attributes:
        works: What the static block computes, and at which shares of the dynamic one.
        maskers: What the maskers cost; always dense, absent in a static block.
    """

    works: tuple[Work, ...]
    maskers: int

    @property
    def static(self) -> int:
        """MACs of the block without maskers, F_stat of Sec. 3.5."""
        return sum(work.macs for work in self.works)

    def dynamic(self, shares: Shares) -> Tensor | float:
        """MACs of the block at the given shares, F_dyn of Sec. 3.5, as Σ MACs · Π shares.

        Args:
            shares: The share of each axis by its name, a number or (N,) for N images; whoever wants
                a mean takes it afterwards, as a product of means is not the mean of products.

        Returns:
            A number or (N,), differentiable in the shares.
        """
        return self.maskers + _macs_at(self.works, shares)

    def skippable(self, shares: Shares) -> Tensor | float:
        """The part of :meth:`dynamic` that can be skipped: no maskers, no shortcut."""
        return _macs_at([work for work in self.works if work.runs_at], shares)


def _macs_at(works: Sequence[Work], shares: Shares) -> Tensor | float:
    macs: Tensor | float = 0
    for names, some in groupby(works, lambda work: work.runs_at):
        macs = macs + sum(work.macs for work in some) * prod(shares[name] for name in names)
    return macs


def block_cost(block: DynamicBlock, trace: BlockTrace) -> BlockCost:
    """The cost of ``block`` at the sizes of ``trace``."""
    return BlockCost(
        works=block.branch.works(trace.input_size, [d.axis for d in trace.decisions]),
        maskers=sum(masker.macs(trace.input_size) for masker in block.maskers),
    )


@dataclass(frozen=True)
class NetworkCost:
    """MACs of a network for one image.

    Attributes:
        fixed: Whatever is not in a dynamic block: stem, and the classifier where there is one.
        blocks: Cost of each dynamic block, in order.
    """

    fixed: int
    blocks: tuple[BlockCost, ...]

    @property
    def static(self) -> int:
        """F_stat."""
        return self.fixed + sum(block.static for block in self.blocks)

    def dynamic(self, shares: Sequence[Shares]) -> Tensor | float:
        """F_dyn, given the shares of each block, see :meth:`BlockCost.dynamic`."""
        macs: Tensor | float = self.fixed
        for block, block_shares in zip(self.blocks, shares, strict=True):
            macs = macs + block.dynamic(block_shares)
        return macs
