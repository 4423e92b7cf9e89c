"""Backbones, registered in whichever of mmdet and mmpretrain is installed."""

from importlib.util import find_spec

from .backbone import DynamicBackbone

if find_spec('mmdet'):
    from . import mobilenet_mmdet, regnet_mmdet, resnet_mmdet  # noqa: F401
if find_spec('mmpretrain'):
    from . import (  # noqa: F401
        densenet_mmpretrain,
        mobilenet_mmpretrain,
        regnet_mmpretrain,
        resnet_cifar_mmpretrain,
        resnet_mmpretrain,
        transformer_mmpretrain,
    )

__all__ = ['DynamicBackbone']
