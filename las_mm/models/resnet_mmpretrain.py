"""LAS-ResNet as a backbone of mmpretrain's classifiers."""

from typing import Any

from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck, ResLayer, ResNet
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from las_mm.layers import DynamicBlock

from .resnet import LASResNetMixin


class DropPathBlock(DynamicBlock):
    """mmpretrain's blocks drop the residual branch of whole samples in training."""

    drop_path: nn.Module

    def drop(self, factor: Tensor) -> Tensor:
        return self.drop_path(factor)


class LASBasicBlock(DropPathBlock, BasicBlock):
    """mmpretrain's basic block with a masker."""


class LASBottleneck(DropPathBlock, Bottleneck):
    """mmpretrain's bottleneck with a masker."""


class LASResLayer(ResLayer):
    """A stage that passes initialisation on to its maskers, as mmdet's does by itself."""

    def init_weights(self) -> None:
        for block in self:
            for masker in block.maskers:
                masker.init_weights()


@MODELS.register_module()
class LASResNet(LASResNetMixin, ResNet):
    """LAS-ResNet for mmpretrain.

    The arguments are those of :class:`~las_mm.models.resnet.LASResNetMixin` and its ResNet.

    Example:
        >>> LASResNet(50, granularity='4-4-2-1', out_indices=(3,))
    """

    dynamic_blocks = {BasicBlock: LASBasicBlock, Bottleneck: LASBottleneck}

    def make_res_layer(self, block: type[nn.Module], **kwargs: Any) -> LASResLayer:
        return LASResLayer(block=self.dynamic_blocks[block], **kwargs)
