"""Dynamic residual blocks in plain PyTorch, with torchvision's names for every parameter."""

from typing import Any

from torch import nn

from .dynamic_block import DynamicBlock
from .gated_block import GatedBlock


class _PlainBlock(DynamicBlock, nn.Module):
    """What the two blocks below share: norms under their usual names, a shortcut where needed."""

    norm1 = property(lambda self: self.bn1)
    norm2 = property(lambda self: self.bn2)

    def _finish(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        granularity: int | str | None,
        **options: Any,
    ) -> None:
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        self.make_dynamic(granularity, **options)


class DynamicBottleneck(GatedBlock, _PlainBlock):
    """Bottleneck of Fig. 2: 1×1, 3×3 and 1×1 convolutions, the stride in the 3×3 one.

    Args:
        in_channels: Channels of the input.
        mid_channels: Channels between the convolutions.
        out_channels: Channels of the output.
        granularity: S, edge of a patch in pixels of the output.
        stride: Stride of the block.
        dilation: Dilation of the 3×3 convolution.
        groups: Groups of the 3×3 convolution.
        squeeze_channels: Channels inside squeeze-and-excitation after the 3×3 convolution, as in
            RegNetY; 0 for none.
        **options: Further arguments of :meth:`~las_mm.layers.DynamicBlock.make_dynamic`.
    """

    norm3 = property(lambda self: self.bn3)

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        granularity: int | str | None,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        squeeze_channels: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, mid_channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid_channels)
        self.conv2 = nn.Conv2d(
            mid_channels, mid_channels, 3, stride, dilation, dilation, groups, bias=False
        )
        self.bn2 = nn.BatchNorm2d(mid_channels)
        self.conv3 = nn.Conv2d(mid_channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        if squeeze_channels:
            self.add_gate(squeeze_channels)
        self._finish(in_channels, out_channels, stride, granularity, **options)


class DynamicBasicBlock(_PlainBlock):
    """Two 3×3 convolutions, the stride in the first one; the first runs at the dilated set.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels between the convolutions and of the output.
        granularity: S, edge of a patch in pixels of the output.
        stride: Stride of the block.
        dilation: Dilation of both convolutions.
        **options: Further arguments of :meth:`~las_mm.layers.DynamicBlock.make_dynamic`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        granularity: int | str | None,
        stride: int = 1,
        dilation: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self._finish(in_channels, out_channels, stride, granularity, **options)
