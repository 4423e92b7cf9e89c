"""Backbones, registered in whichever of mmdet and mmpretrain is installed."""

from importlib.util import find_spec

from .backbone import DynamicBackbone

if find_spec('mmdet'):
    from . import resnet_mmdet, roi_align  # noqa: F401
if find_spec('mmpretrain'):
    from . import resnet_mmpretrain  # noqa: F401

__all__ = ['DynamicBackbone']
