"""las_mm: latency-aware spatial-wise dynamic networks as an OpenMMLab plugin.

Importing it (``custom_imports = dict(imports=['las_mm'])`` in a config) registers the backbones
and hooks in mmengine, mmdet and mmpretrain, whether these are imported before or after it. It
imports none of them, nothing but torch; its own modules are imported when asked for.
"""

from typing import TYPE_CHECKING

from .config import find_config
from .importing import lazy_submodules
from .inference import optimize_for_inference, quantize, restore_after_inference
from .patches import install
from .registration import register
from .version import __version__

__all__ = [
    '__version__',
    'find_config',
    'optimize_for_inference',
    'quantize',
    'restore_after_inference',
]

if TYPE_CHECKING:
    from . import hooks, models  # noqa: F401
else:
    __getattr__, __dir__ = lazy_submodules(__name__, __path__)

install()
register()
