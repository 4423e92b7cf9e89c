"""LAS-ResNet as a backbone of mmpretrain's classifiers."""

from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from mmpretrain.registry import MODELS
from torch import Tensor

from las_mm.layers import DynamicBlock

from .resnet import LASResNetMixin


class DropPathBlock(DynamicBlock):
    """mmpretrain's blocks drop the residual branch of whole samples in training."""

    def branch(self, x: Tensor) -> Tensor:
        return self.drop_path(super().branch(x))


class LASBasicBlock(DropPathBlock, BasicBlock):
    """mmpretrain's basic block with a masker."""


class LASBottleneck(DropPathBlock, Bottleneck):
    """mmpretrain's bottleneck with a masker."""


@MODELS.register_module()
class LASResNet(LASResNetMixin, ResNet):
    """LAS-ResNet for mmpretrain; the arguments are those of :class:`LASResNetMixin` and its ResNet.

    Example:
        >>> LASResNet(50, granularity='4-4-2-1', out_indices=(3,))
    """

    dynamic_blocks = {BasicBlock: LASBasicBlock, Bottleneck: LASBottleneck}
