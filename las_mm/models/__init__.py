"""Backbones, registered in whichever of mmdet and mmpretrain is installed."""

from importlib.util import find_spec

from .backbone import DynamicBackbone

if find_spec('mmdet'):
    from . import regnet_mmdet, resnet_mmdet  # noqa: F401
if find_spec('mmpretrain'):
    from . import densenet_mmpretrain, regnet_mmpretrain, resnet_mmpretrain  # noqa: F401

__all__ = ['DynamicBackbone']
