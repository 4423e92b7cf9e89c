"""Which of mmdet and mmpretrain a config needs; las_mm works with either one alone."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config

FORKS = {'mmdet': 'onedl-mmdetection', 'mmpretrain': 'onedl-mmpretrain'}


def read_config(path: str | Path, options: dict | None = None) -> Config:
    """Read a config whose frameworks are installed.

    Args:
        path: Of the file.
        options: Entries to change in it, such as ``{'model.backbone.depth': 18}``.

    Raises:
        ValueError: If it needs a framework that is not installed.
    """
    try:
        cfg = Config.fromfile(path)
    except ModuleNotFoundError as error:  # a base in a framework: "mmdet is not installed, …"
        missing = [framework for framework in FORKS if framework in str(error)]
        if not missing:
            raise
        raise ValueError(_not_installed('config', str(path), missing[0])) from None
    cfg.merge_from_dict(options or {})
    require_frameworks(cfg)
    return cfg


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
