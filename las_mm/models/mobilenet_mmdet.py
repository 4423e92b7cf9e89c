"""LAS-MobileNetV2 as a backbone of mmdet's detectors."""

from typing import Any

from mmdet.models.backbones.mobilenet_v2 import MobileNetV2
from mmdet.models.layers import InvertedResidual
from mmdet.registry import MODELS
from torch import Tensor, nn

from .mobilenet import InvertedResidualBlock, LASMobileNetV2Mixin


class LASInvertedResidual(InvertedResidualBlock, InvertedResidual):
    """mmdet's inverted residual, without squeeze-and-excitation, with a masker."""

    with_expand_conv: bool
    with_res_shortcut: bool
    expand_conv: nn.Module
    depthwise_conv: nn.Module
    linear_conv: nn.Module
    drop_path: nn.Module

    @property
    def has_shortcut(self) -> bool:
        return self.with_res_shortcut

    @property
    def conv_modules(self) -> list[Any]:
        expansion = [self.expand_conv] if self.with_expand_conv else []
        return [*expansion, self.depthwise_conv, self.linear_conv]

    def drop(self, factor: Tensor) -> Tensor:
        return self.drop_path(factor)


@MODELS.register_module()
class LASMobileNetV2(LASMobileNetV2Mixin, MobileNetV2):
    """LAS-MobileNetV2 for mmdet; its arguments:
    :class:`~las_mm.models.mobilenet.LASMobileNetV2Mixin`.

    Example:
        >>> LASMobileNetV2(granularity='4-4-2-2-1', out_indices=(2, 4, 6))
    """

    static_block, dynamic_block = InvertedResidual, LASInvertedResidual
