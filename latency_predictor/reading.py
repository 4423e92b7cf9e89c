"""Layers and blocks of a network's file, today's and that of before blocks had layers."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .blocks import basic, bottleneck
from .checks import require_one_of
from .encoder_spec import EncoderSpec
from .spec import BlockSpec, LayerSpec

# The kinds of block that files named when a block had no layers.
BUILDERS: dict[str, Callable[..., BlockSpec]] = {'bottleneck': bottleneck, 'basic': basic}


def read_layer(owner: str, entry: Any) -> LayerSpec | EncoderSpec:
    """A layer of a mapping of its fields; one with heads is an encoder layer.

    Raises:
        ValueError: If a field is unknown, missing or wrong; ``owner`` is named first.
    """
    is_encoder = isinstance(entry, Mapping) and 'heads' in entry
    return _build(EncoderSpec if is_encoder else LayerSpec, owner, entry)


def read_block(owner: str, entry: Any) -> BlockSpec | EncoderSpec:
    """A block of a mapping of its fields; one with heads is an encoder layer.

    Raises:
        ValueError: If a field is unknown, missing or wrong; ``owner`` is named first.
    """
    if isinstance(entry, Mapping) and 'kind' in entry:
        require_one_of(f'{owner}, kind', entry['kind'], BUILDERS)
        fields = {key: value for key, value in entry.items() if key != 'kind'}
        return _build(BUILDERS[entry['kind']], owner, fields)
    if not isinstance(entry, Mapping):
        return _build(BlockSpec, owner, entry)
    if 'heads' in entry:
        return _build(EncoderSpec, owner, entry)
    lists = {
        key: tuple(
            read_layer(f'{owner}, {key}[{index}]', item)
            for index, item in enumerate(_listed(f'{owner}, {key}', entry[key]))
        )
        for key in ('layers', 'shortcut')
        if key in entry
    }
    return _build(BlockSpec, owner, {**entry, **lists})


def _listed(owner: str, items: Any) -> Iterable:
    if not isinstance(items, (list, tuple)):
        raise ValueError(f'{owner}: got {items!r}; give a list')
    return items


def _build(build: Callable[..., Any], owner: str, entry: Any) -> Any:
    """Call with the fields of a mapping, naming unknown and missing ones."""
    if not isinstance(entry, Mapping):
        raise ValueError(f'{owner}: got {entry!r}; give a mapping of its fields')
    fields = inspect.signature(build).parameters
    unknown = [key for key in entry if key not in fields]
    if unknown:
        raise ValueError(f'{owner}: got the field {unknown[0]!r}; choose of {", ".join(fields)}')
    for name, field in fields.items():
        if field.default is inspect.Parameter.empty and name not in entry:
            raise ValueError(f'{owner}, {name}: got nothing; give it')
    try:
        return build(**entry)
    except TypeError as error:
        raise ValueError(f'{owner}: got a field of the wrong type; {error}') from None
    except ValueError as error:
        raise ValueError(f'{owner}: {error}') from None
