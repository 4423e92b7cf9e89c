"""A block with squeeze-and-excitation before its last convolution."""

from collections.abc import Sequence

from torch import Tensor, nn

from .dynamic_block import DynamicBlock
from .squeeze_excitation import SqueezeExcitation


class GatedBlock(DynamicBlock):
    """RegNet's bottleneck: in RegNetY squeeze-and-excitation follows the 3×3 convolution."""

    def add_gate(self, squeeze_channels: int) -> None:
        """Turn RegNetX's block into RegNetY's."""
        self.se = SqueezeExcitation(self.conv2.out_channels, squeeze_channels)

    @property
    def plain_branch(self) -> bool:
        return not hasattr(self, 'se') or type(self.se) is SqueezeExcitation

    @property
    def gate_convs(self) -> Sequence[nn.Conv2d]:
        return (self.se.fc1, self.se.fc2) if hasattr(self, 'se') else ()

    def body(self, x: Tensor, pixels: Tensor | None = None) -> Tensor:
        if not hasattr(self, 'se'):
            return super().body(x, pixels)
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)))
        return self.conv3(self.se(x, pixels))
