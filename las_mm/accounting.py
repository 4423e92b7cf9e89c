"""What a dynamic network computes: multiply–accumulates (MACs) from static shapes and rates.

MACs are counted as OpenMMLab counts FLOPs: one multiply–accumulate of a convolution is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar, cast

from torch import Tensor, nn

from las_mm.layers import BlockTrace, DynamicBlock

Rate = TypeVar('Rate', float, Tensor)


def conv_macs(conv: nn.Conv2d, size: tuple[int, int]) -> int:
    """MACs of a convolution for one image.

    Args:
        conv: The convolution.
        size: (H, W) of its output.
    """
    return prod(size) * conv.weight.numel()


@dataclass(frozen=True)
class BlockCost:
    """MACs of one block for one image, by the rate at which each part runs.

    Attributes:
        dilated: First convolution; runs at the dilated rate.
        active: The following convolutions; run at the activation rate.
        shortcut: Convolution of the shortcut; always dense.
        masker: Pooling and 1×1 convolution of the masker; always dense, absent in a static block.
        gate: Convolutions on pooled features, once per image (squeeze-and-excitation).
    """

    dilated: int
    active: int
    shortcut: int
    masker: int
    gate: int = 0

    @property
    def static(self) -> int:
        """MACs of the block without masker, F_stat of Sec. 3.5."""
        return self.dilated + self.active + self.shortcut + self.gate

    def dynamic(self, activation_rate: Rate, dilated_rate: Rate) -> Rate:
        """MACs of the block at the given rates, F_dyn of Sec. 3.5; differentiable in them."""
        convs = self.dilated * dilated_rate + self.active * activation_rate
        return convs + self.shortcut + self.masker + self.gate


def block_cost(block: DynamicBlock, trace: BlockTrace) -> BlockCost:
    """The cost of ``block`` at the sizes of ``trace``."""
    first, *rest = [conv for conv, _ in block.branch_layers()]
    downsample = getattr(block, 'downsample', None)
    inside = [] if downsample is None else downsample.modules()
    shortcut = [module for module in inside if isinstance(module, nn.Conv2d)]
    channels, logits = block.masker.conv.in_channels, block.masker.conv.weight.numel()
    return BlockCost(
        dilated=conv_macs(first, trace.conv1_size),
        active=sum(conv_macs(conv, trace.size) for conv in rest),
        shortcut=sum(conv_macs(conv, trace.size) for conv in shortcut),
        masker=channels * prod(trace.input_size) + logits * prod(trace.mask.shape[-2:]),
        gate=sum(conv_macs(conv, (1, 1)) for conv in block.gate_convs),
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

    def dynamic(self, activation_rates: Sequence[Rate], dilated_rates: Sequence[Rate]) -> Rate:
        """F_dyn at one activation and one dilated rate per block."""
        rates = zip(self.blocks, activation_rates, dilated_rates, strict=True)
        parts = [block.dynamic(r, dilated) for block, r, dilated in rates]
        return cast(Rate, self.fixed + sum(parts))  # no blocks would leave the integer 0
