"""RegNetX/Y and LAS-RegNet as backbones of mmdet's detectors."""

from mmdet.models.backbones.regnet import RegNet
from mmdet.models.backbones.resnext import Bottleneck
from mmdet.registry import MODELS

from .regnet import GatedBlock, LASRegNetMixin, SERegNetMixin


class RegNetBlock(GatedBlock, Bottleneck):
    """mmdet's ResNeXt bottleneck with a gate and a masker."""


@MODELS.register_module()
class SERegNet(SERegNetMixin, RegNet):
    """Static RegNetX/Y for mmdet; the arguments are those of its RegNet."""

    gated_block = RegNetBlock


@MODELS.register_module()
class LASRegNet(LASRegNetMixin, SERegNet):
    """LAS-RegNet for mmdet; the arguments are those of :class:`LASRegNetMixin`.

    Example:
        >>> LASRegNet('regnetx_3.2gf', granularity='4-4-2-1', frozen_stages=1)
    """
