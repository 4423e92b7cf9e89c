"""A block with squeeze-and-excitation before its last convolution."""

from torch import nn

from .dynamic_block import DynamicBlock
from .squeeze_excitation import SqueezeExcitation


class GatedBlock(DynamicBlock):
    """RegNet's bottleneck: in RegNetY squeeze-and-excitation follows the 3×3 convolution."""

    def add_gate(self, squeeze_channels: int, pools_all: bool = False) -> None:
        """Turn RegNetX's block into RegNetY's; see :class:`~las_mm.layers.SqueezeExcitation`."""
        self.se = SqueezeExcitation(self.conv2.out_channels, squeeze_channels, pools_all)

    @property
    def gate(self) -> nn.Module | None:
        return getattr(self, 'se', None)
