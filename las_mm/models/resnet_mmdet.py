"""LAS-ResNet as a backbone of mmdet's detectors."""

from mmdet.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from mmdet.registry import MODELS

from las_mm.layers import DynamicBlock

from .resnet import LASResNetMixin


class LASBasicBlock(DynamicBlock, BasicBlock):
    """mmdet's basic block with a masker."""


class LASBottleneck(DynamicBlock, Bottleneck):
    """mmdet's bottleneck with a masker."""


@MODELS.register_module()
class LASResNet(LASResNetMixin, ResNet):
    """LAS-ResNet for mmdet.

    The arguments are those of :class:`~las_mm.models.resnet.LASResNetMixin` and mmdet's ResNet.

    Example:
        >>> LASResNet(101, granularity='4-4-7-1', frozen_stages=1, norm_eval=True)
    """

    dynamic_blocks = {BasicBlock: LASBasicBlock, Bottleneck: LASBottleneck}
