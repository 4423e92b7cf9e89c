"""RegNetX/Y and LAS-RegNet as backbones of mmpretrain's classifiers."""

from typing import Any

from mmpretrain.models.backbones.regnet import RegNet
from mmpretrain.models.backbones.resnext import Bottleneck
from mmpretrain.registry import MODELS
from torch import nn

from las_mm.layers import GatedBlock

from .regnet import LASRegNetMixin, SERegNetMixin
from .resnet_mmpretrain import LASResLayer


class RegNetBlock(GatedBlock, Bottleneck):
    """mmpretrain's ResNeXt bottleneck with a gate and a masker."""

    zeroes_channels = True


@MODELS.register_module()
class SERegNet(SERegNetMixin, RegNet):
    """Static RegNetX/Y for mmpretrain; the arguments are those of its RegNet."""

    gated_block = RegNetBlock

    def make_res_layer(self, block: type[nn.Module], **kwargs: Any) -> LASResLayer:
        return LASResLayer(block=self.gated_block, **kwargs)


@MODELS.register_module()
class LASRegNet(LASRegNetMixin, SERegNet):
    """LAS-RegNet for mmpretrain.

    The arguments are those of :class:`~las_mm.models.regnet.LASRegNetMixin`.

    Example:
        >>> LASRegNet('regnety_400mf', granularity='4-4-2-1')
    """
