"""Which of mmdet and mmpretrain a config needs; las_mm works with either one alone."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from las_mm.config_parts import class_of

FORKS = {'mmdet': 'onedl-mmdetection', 'mmpretrain': 'onedl-mmpretrain'}


def read_config(path: str | Path, options: dict | None = None) -> Config:
    """Read a config whose frameworks are installed.

    Args:
        path: Of the file.
        options: Entries to change in it, such as ``{'model.backbone.depth': 18}``.

    Raises:
        ValueError: If it cannot be read or changed so, or needs a framework that is not installed.
    """
    try:
        cfg = Config.fromfile(path)
    except ModuleNotFoundError as error:  # a base in a framework: "mmdet is not installed, …"
        missing = [framework for framework in FORKS if framework in str(error)]
        if missing and find_spec(missing[0]) is None:
            raise ValueError(_not_installed('config', str(path), missing[0])) from None
        raise ValueError(_unreadable(path, error)) from error
    except Exception as error:  # whatever Python, and what the config runs, may raise
        raise ValueError(_unreadable(path, error)) from error
    try:
        cfg.merge_from_dict(options or {})
    except Exception as error:
        raise ValueError(
            f'--cfg-options: got {options}; the config has no place for it '
            f'({type(error).__name__}: {error}), name entries as in model.backbone.depth=18'
        ) from error
    require_frameworks(cfg)
    return cfg


def _unreadable(path: str | Path, error: Exception) -> str:
    said = f'{type(error).__name__}: {error}'
    return f'config: {str(path)!r} cannot be read ({said}); correct it, or name another'


def require_model(cfg: Config) -> None:
    """Check that a config describes a model.

    Raises:
        ValueError: If it does not, as configs of data or schedules alone.
    """
    model = cfg.get('model')
    if not isinstance(model, Mapping) or not model.get('type'):
        raise ValueError(
            f'model: got {model!r}; the config must have one, such as model=dict(type=...)'
        )


def framework_of(cfg: Config) -> str | None:
    """Which framework a config's model is of: ``'mmdet'``, ``'mmpretrain'``, or None for others.

    The classes that the model's own is derived from tell, as configs may leave out the default
    scope, or be of a project of its own.
    """
    kind = class_of(cfg, cfg.get('model') or {}, MODELS)
    for base in getattr(kind, '__mro__', ()):
        framework = base.__module__.partition('.')[0]
        if framework in FORKS:
            return framework
    scope = cfg.get('default_scope')
    return scope if kind is None and scope in FORKS else None


def require_frameworks(cfg: Config) -> None:
    """Check that the frameworks whose parts a config names are installed.

    Raises:
        ValueError: If one is not; mmengine would only say that it does not know the part.
    """
    for framework in FORKS:
        field, value = next(_uses(cfg, framework), ('', ''))
        if field and find_spec(framework) is None:
            raise ValueError(_not_installed(field, value, framework))


def _not_installed(field: str, value: str, framework: str) -> str:
    return (
        f'{field}: {value!r} is of {framework}, which is not installed; '
        f'pip install {framework} (or {FORKS[framework]}, beside the other forks)'
    )


def _uses(value: Any, framework: str, path: str = '') -> Iterator[tuple[str, str]]:
    """The fields, and their values, by which a config asks for a framework."""
    if isinstance(value, dict | Config):
        for key, entry in value.items():
            yield from _uses(entry, framework, f'{path}.{key}' if path else key)
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _uses(entry, framework, f'{path}.{index}')
    elif isinstance(value, str):
        key = path.rpartition('.')[2]
        named = key == 'default_scope' and value == framework
        if named or key in ('type', '_scope_') and value.split('.')[0] == framework:
            yield path, value
