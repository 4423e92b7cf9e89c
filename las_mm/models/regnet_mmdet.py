"""RegNetX/Y and LAS-RegNet as backbones of mmdet's detectors."""

from typing import Any

from mmdet.models.backbones.regnet import RegNet
from mmdet.models.backbones.resnext import Bottleneck
from mmdet.registry import MODELS

from las_mm.layers import GatedBlock

from .regnet import LASRegNetMixin, SERegNetMixin


class RegNetBlock(GatedBlock, Bottleneck):
    """mmdet's ResNeXt bottleneck with a gate and a masker.

    Args:
        base_width: Width of a group.
        **kwargs: mmdet's other arguments.
    """

    zeroes_channels = True

    def __init__(self, *args: Any, base_width: int, **kwargs: Any) -> None:
        # mmdet rounds a product of floats down, which makes 15 of 784 * (16 / 784).
        super().__init__(*args, base_width=base_width + 1e-6, **kwargs)


@MODELS.register_module()
class SERegNet(SERegNetMixin, RegNet):
    """Static RegNetX/Y for mmdet; the arguments are those of its RegNet."""

    gated_block = RegNetBlock


@MODELS.register_module()
class LASRegNet(LASRegNetMixin, SERegNet):
    """LAS-RegNet for mmdet.

    The arguments are those of :class:`~las_mm.models.regnet.LASRegNetMixin`.

    Example:
        >>> LASRegNet('regnetx_3.2gf', granularity='4-4-2-1', frozen_stages=1)
    """
