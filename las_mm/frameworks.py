"""Which of mmdet and mmpretrain a config needs; las_mm works with either one alone."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config

FORKS = {'mmdet': 'onedl-mmdetection', 'mmpretrain': 'onedl-mmpretrain'}


def require_frameworks(cfg: Config) -> None:
    """Check that the frameworks whose parts a config names are installed.

    Raises:
        ValueError: If one is not; mmengine would only say that it does not know the part.
    """
    for framework, fork in FORKS.items():
        field, value = next(_uses(cfg, framework), (None, None))
        if field is not None and find_spec(framework) is None:
            raise ValueError(
                f'{field}: {value!r} is of {framework}, which is not installed; '
                f'pip install {framework} (or {fork}, beside the other forks)'
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
