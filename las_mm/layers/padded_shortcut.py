"""The shortcut without parameters of the first ResNets for CIFAR."""

import torch.nn.functional as F
from torch import Tensor, nn


class PaddedShortcut(nn.Module):
    """Option A of He et al. (2016): every ``stride``-th pixel, and channels of zeros behind.

    Args:
        out_channels: Channels of the output.
        stride: Stride of the block.
    """

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)), a new tensor."""
        x = x[:, :, :: self.stride, :: self.stride]
        before = (self.out_channels - x.shape[1]) // 2
        after = self.out_channels - x.shape[1] - before
        return F.pad(x, (0, 0, 0, 0, before, after))

    def extra_repr(self) -> str:
        return f'out_channels={self.out_channels}, stride={self.stride}'
