"""What a part of a config is of: its type may be a name, with or without its scope, or a class."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

FRAMEWORKS = ('mmdet', 'mmpretrain', 'mmengine')


def type_name(part: Mapping[str, Any]) -> str:
    """The name of the class that a part of a config asks for, '' where it asks for none.

    Args:
        part: Such as ``dict(type='mmdet.CocoDataset')``, or with the class itself, as configs in
            pure Python have it.
    """
    kind = part.get('type', '')
    if isinstance(kind, str):
        return kind.rpartition('.')[2]
    return getattr(kind, '__name__', str(kind).rpartition('.')[2])


def class_of(cfg: Mapping[str, Any], part: Mapping[str, Any], registry: Any) -> Any:
    """The class, or function, that a part of a config asks for; None if nobody has registered it.

    Args:
        cfg: The config, whose ``default_scope`` is where a name is looked for first.
        part: Such as ``dict(type='CocoDataset')``.
        registry: mmengine's registry of such parts.
    """
    kind = part.get('type')
    if not isinstance(kind, str):
        return kind
    installed = [name for name in FRAMEWORKS if find_spec(name)]
    scopes = dict.fromkeys([cfg.get('default_scope') or 'mmengine', *installed])
    names = [f'{scope}.{kind}' for scope in scopes] if '.' not in kind else [kind]
    for name in names:
        scope = name.partition('.')[0]
        try:  # a framework that is broken, or a package that is not there, is not for us to tell of
            if scope in installed:
                import_module(f'{scope}.registry')
            found = registry.get(name)
        except Exception:
            continue
        if found:
            return found
    return None


def by_names(part: Any) -> Any:
    """A copy of a part of a config with dotted names for classes and functions, to be dumped."""
    if isinstance(part, Mapping):
        return {key: by_names(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return type(part)(map(by_names, part))
    named = callable(part) and hasattr(part, '__qualname__')
    return f'{part.__module__}.{part.__qualname__}' if named else part


def innermost_datasets(dataset: Any) -> list[dict]:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    if isinstance(dataset, (list, tuple)):
        return [inner for one in dataset for inner in innermost_datasets(one)]
    if not isinstance(dataset, Mapping):
        return []
    inside = dataset.get('dataset') or dataset.get('datasets')
    wraps = isinstance(inside, (Mapping, list, tuple))
    return innermost_datasets(inside) if wraps else [dataset]  # type: ignore[list-item]
