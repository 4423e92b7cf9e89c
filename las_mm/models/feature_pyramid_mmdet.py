"""The neck between a plain vision transformer and mmdet's detectors (Li et al., ViTDet)."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

SCALES = (4, 2, 1, 0.5)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@MODELS.register_module()
class SimpleFeaturePyramid(nn.Module):
    """A pyramid of the last map of a transformer alone, of stride 16 (ViTDet, Sec. 3).

    Maps of strides 4, 8, 16 and 32 are the map deconvolved twice or once, itself, and its maxima;
    each goes through a 1×1 and a 3×3 convolution with layer norms. Further levels take every second
    pixel of the last one.

    Args:
        in_channels: Channels of the map.
        out_channels: Of each level.
        num_outs: Levels, 4 or more.

    Raises:
        ValueError: If ``in_channels`` is no multiple of 4, or ``num_outs`` is below 4.

    Example:
        >>> neck = SimpleFeaturePyramid(in_channels=384)
        >>> [level.shape[-1] for level in neck([torch.rand(1, 384, 14, 14)])]
        [56, 28, 14, 7, 4]
    """

    def __init__(self, in_channels: int, out_channels: int = 256, num_outs: int = 5) -> None:
        super().__init__()
        if in_channels % 4:
            raise ValueError(f'in_channels: got {in_channels}; give a multiple of 4')
        if num_outs < len(SCALES):
            raise ValueError(f'num_outs: got {num_outs}; give {len(SCALES)} or more levels')
        self.num_outs = num_outs
        self.levels = nn.ModuleList(_level(in_channels, out_channels, scale) for scale in SCALES)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The last of a backbone's maps (N, C, h, w) -> maps (N, C', h·s, w·s), finest first."""
        maps = [level(inputs[-1]) for level in self.levels]
        while len(maps) < self.num_outs:
            maps.append(F.max_pool2d(maps[-1], 1, 2))
        return tuple(maps)


def _level(inputs: int, outputs: int, scale: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = inputs
    if scale == 0.5:
        layers.append(nn.MaxPool2d(2, 2))
    for step in range({4: 2, 2: 1}.get(int(scale), 0)):
        if step:
            layers += [ChannelNorm(channels), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, 2))
        channels //= 2
    layers += [nn.Conv2d(channels, outputs, 1, bias=False), ChannelNorm(outputs)]
    layers += [nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), ChannelNorm(outputs)]
    return nn.Sequential(*layers)
