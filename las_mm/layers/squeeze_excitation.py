"""Squeeze-and-excitation whose mean is taken over the active pixels alone."""

import torch
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Scales channels by a gate computed from their mean over the *active* pixels.

        gate = sigmoid(W2 · relu(W1 · Σ(M ⊙ x) / Σ M))

    A mean over the whole map, as the static layer takes it, would need every pixel of the
    convolution before it and leave nothing to skip. Over the active pixels it is the static layer
    exactly where all patches are active, and what is skipped is read in no mode: dense-masked and
    sparse execution agree, in training as in inference. Names are torchvision's.

    Args:
        channels: Channels of the input and output.
        squeeze_channels: Channels between the two layers.
        pools_all: Whether the mean is over the whole map after all, as in the authors' training
            code, whose RegNetY checkpoints need it; blocks that skip pixels then run densely.
    """

    def __init__(self, channels: int, squeeze_channels: int, pools_all: bool = False) -> None:
        super().__init__()
        self.pools_all = pools_all
        self.fc1 = nn.Conv2d(channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, channels, 1)

    def pool(self, x: Tensor, pixels: Tensor | None) -> Tensor:
        """Mean over the active pixels, zero where there are none: (N, C, H, W) -> (N, C, 1, 1).

        Args:
            x: (N, C, H, W).
            pixels: (N, 1, H, W) mask of the active pixels; None if all are.
        """
        if pixels is None or self.pools_all:
            return x.mean((2, 3), keepdim=True)
        share = pixels.mean((2, 3), keepdim=True)
        # At least one pixel's share: with no active patch the sum is zero, and so is the mean.
        share = share.clamp(min=1 / (x.shape[2] * x.shape[3]))
        return (x * pixels.to(x.dtype)).mean((2, 3), keepdim=True) / share.to(x.dtype)

    def forward(self, x: Tensor, pixels: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W); ``pixels`` as in :meth:`pool`."""
        gate = self.fc2(torch.relu(self.fc1(self.pool(x, pixels))))
        return x * torch.sigmoid(gate)
