"""What a report says about the run it comes from."""

import platform
import sys
from numbers import Real
from typing import Any

from mmengine.runner import Runner

from las_mm.version import __version__

PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'numpy')


def versions() -> dict[str, str]:
    """Versions of las_mm, Python and the packages below it that this process has imported.

    The modules tell, not the installed distributions: forks have the modules under other names.
    """
    modules = {name: sys.modules.get(name) for name in PACKAGES}
    found = {name: module.__version__ for name, module in modules.items() if module is not None}
    return {'las_mm': __version__, 'python': platform.python_version(), **found}


def run_record(runner: Runner, executor: str) -> dict[str, Any]:
    """Config, checkpoint, executor and versions of a run, JSON-ready."""
    return {
        'config': runner.cfg.filename,
        'checkpoint': runner._load_from,
        'executor': executor,
        'versions': versions(),
    }


def plain_metrics(metrics: dict[str, Any] | None) -> dict[str, float]:
    """The metrics that are numbers, JSON-ready."""
    return {name: float(value) for name, value in (metrics or {}).items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) or (hasattr(value, 'item') and getattr(value, 'size', 2) == 1)
