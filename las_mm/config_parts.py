"""What a part of a config is of: its type may be a name, with or without its scope, or a class."""

from collections.abc import Mapping
from typing import Any


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


def by_names(part: Any) -> Any:
    """A copy of a part of a config with dotted names in the place of classes, to be dumped."""
    if isinstance(part, Mapping):
        return {key: by_names(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return type(part)(map(by_names, part))
    return f'{part.__module__}.{part.__qualname__}' if isinstance(part, type) else part


def innermost_datasets(dataset: Any) -> list[dict]:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    if isinstance(dataset, (list, tuple)):
        return [inner for one in dataset for inner in innermost_datasets(one)]
    if not isinstance(dataset, Mapping):
        return []
    inside = dataset.get('dataset') or dataset.get('datasets')
    return innermost_datasets(inside) if inside else [dataset]  # type: ignore[list-item]
