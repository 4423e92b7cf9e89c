"""Acting as soon as somebody has imported a module; modules that are imported when asked for."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

Act = Callable[[], object]
_waiting: dict[str, list[Act]] = {}


def when_imported(name: str, act: Act) -> None:
    """Call a function right after a module has been imported, whoever does it and whenever.

    Args:
        name: Dotted name of the module; nothing happens where it is never imported.
        act: Called once: now if the module is there. What it raises fails that import.
    """
    if sys.modules.get(name) is not None:
        import_module(name)  # waits for another thread that is at it
        act()
        return
    _waiting.setdefault(name, []).append(act)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def is_half_imported(name: str) -> bool:
    """Whether the import of a module that :func:`when_imported` waits for has begun."""
    return name in _waiting and sys.modules.get(name) is not None


class _Finder(MetaPathFinder):
    """Finds modules by the other finders, and lets those that are waited for tell their end."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _waiting:
            return None
        for finder in [finder for finder in sys.meta_path if finder is not self]:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _TellingLoader(spec.loader)
                return spec
        return None


class _TellingLoader(Loader):
    """Stands before a module's loader until the module has been run."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        for act in _waiting.pop(module.__name__, []):
            act()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


_FINDER = _Finder()


def lazy_submodules(
    package: str, path: Sequence[str]
) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose modules are imported when asked for.

    Args:
        package: Its name.
        path: Its ``__path__``.
    """

    def names() -> set[str]:
        return {module.name for module in iter_modules(path)}

    def get(name: str) -> ModuleType:
        if name not in names():
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return import_module(f'{package}.{name}')

    def list_names() -> list[str]:
        return sorted(names() | set(vars(sys.modules[package])))

    return get, list_names
