"""Backbones; those of mmdet and mmpretrain are registered there when their own are imported."""

from typing import TYPE_CHECKING

from las_mm.importing import lazy_submodules

from .backbone import DynamicBackbone

__all__ = ['DynamicBackbone']

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_submodules(__name__, __path__)
