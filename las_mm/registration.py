"""Hooks and backbones are in a framework's registries as soon as the framework's own are."""

import sys
from functools import partial
from importlib import import_module
from pkgutil import iter_modules

from . import models
from .importing import is_half_imported, when_imported

FRAMEWORKS = ('mmdet', 'mmpretrain')
HOOKS = 'las_mm.hooks'


def register() -> None:
    """Register what the frameworks that are in use can build, now or when they are imported.

    Hooks come with mmengine's runner, or right now where mmengine is there already, as it is when
    a config names las_mm among its ``custom_imports``; backbones come with a framework's models,
    which its registries import by themselves before they look for a name.
    """
    if 'mmengine.registry' in sys.modules:
        import_module(HOOKS)
    else:
        when_imported('mmengine.runner', partial(import_module, HOOKS))
    for framework in FRAMEWORKS:
        backbones = [
            f'{models.__name__}.{module.name}'
            for module in iter_modules(models.__path__)
            if module.name.endswith(f'_{framework}')
        ]
        for name in (f'{framework}.models', *backbones):
            when_imported(name, partial(_import_all, backbones))


def _import_all(names: list[str]) -> None:
    """Import modules that need each other, unless this is one's own import: its end will do it."""
    if not any(map(is_half_imported, names)):
        for name in names:
            import_module(name)
