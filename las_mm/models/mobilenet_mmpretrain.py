"""LAS-MobileNetV2 as a backbone of mmpretrain's classifiers."""

from typing import Any

from mmpretrain.models.backbones.mobilenet_v2 import InvertedResidual, MobileNetV2
from mmpretrain.registry import MODELS
from torch import nn

from .mobilenet import InvertedResidualBlock, LASMobileNetV2Mixin


class LASInvertedResidual(InvertedResidualBlock, InvertedResidual):
    """mmpretrain's inverted residual with a masker."""

    conv: nn.Sequential
    use_res_connect: bool

    @property
    def has_shortcut(self) -> bool:
        return self.use_res_connect

    @property
    def conv_modules(self) -> list[Any]:
        return list(self.conv)


@MODELS.register_module()
class LASMobileNetV2(LASMobileNetV2Mixin, MobileNetV2):
    """LAS-MobileNetV2 for mmpretrain; its arguments:
    :class:`~las_mm.models.mobilenet.LASMobileNetV2Mixin`.

    Example:
        >>> LASMobileNetV2(granularity='4-4-2-2-1')
    """

    static_block, dynamic_block = InvertedResidual, LASInvertedResidual
