"""las_mm: latency-aware spatial-wise dynamic networks as an OpenMMLab plugin.

Importing it (``custom_imports = dict(imports=['las_mm'])`` in a config) registers the backbones
and hooks. Without mmengine only the layers and executors are there, which need nothing but torch.
"""

from importlib.util import find_spec

from .config import find_config
from .inference import optimize_for_inference, restore_after_inference
from .patches import install
from .version import __version__

if find_spec('mmengine'):
    from . import hooks, models  # noqa: F401

install()

__all__ = ['__version__', 'find_config', 'optimize_for_inference', 'restore_after_inference']
