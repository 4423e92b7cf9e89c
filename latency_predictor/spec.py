"""Plain description of a network: what the latency model needs to know and nothing more.

Everything is a frozen dataclass of numbers and strings, so a network is a small YAML or JSON file.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

__all__ = ['LayerSpec', 'BlockSpec', 'NetworkSpec', 'BLOCK_KINDS', 'LAYER_KINDS']

KERNEL = 3  # edge of a 3x3 convolution
BLOCK_KINDS = ('bottleneck', 'basic')
LAYER_KINDS = ('conv', 'max_pool', 'avg_pool', 'fc')

Granularity = str | Sequence[int | None] | int | None  # S_net
Spec = TypeVar('Spec', 'LayerSpec', 'BlockSpec')


def _require_positive(owner: str, spec: LayerSpec | BlockSpec, fields: tuple[str, ...]) -> None:
    for name in fields:
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f'{owner}: {name} is {value!r}, it must be an integer >= 1')


def _require_kind(owner: str, kind: str, allowed: tuple[str, ...]) -> None:
    if kind not in allowed:
        raise ValueError(f"{owner}: kind '{kind}' is unknown, choose one of {', '.join(allowed)}")


def _from_mapping(cls: type[Spec], owner: str, entry: Any) -> Spec:
    """Build a spec from a mapping, naming unknown and missing fields."""
    if not isinstance(entry, Mapping):
        raise ValueError(f'{owner} is {entry!r}: it must be a mapping of its fields')
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = [key for key in entry if key not in fields]
    if unknown:
        raise ValueError(f"{owner}: unknown field '{unknown[0]}', allowed: {', '.join(fields)}")
    missing = [
        name for name, f in fields.items() if f.default is dataclasses.MISSING and name not in entry
    ]
    if missing:
        raise ValueError(f"{owner}: field '{missing[0]}' is missing")
    return cls(**entry)


@dataclass(frozen=True)
class LayerSpec:
    """One static operator of a stem or head.

    Attributes:
        kind: 'conv', 'max_pool', 'avg_pool' or 'fc' (height = width = 1).
        in_channels, out_channels: C_in and C_out.
        height, width: size of the *output* map.
        kernel, stride, groups, dilation: as in a convolution.
    """

    kind: str
    in_channels: int
    out_channels: int
    height: int = 1
    width: int = 1
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    dilation: int = 1

    def __post_init__(self) -> None:
        owner = f"layer '{self.kind}'"
        _require_kind(owner, self.kind, LAYER_KINDS)
        _require_positive(
            owner, self, tuple(f.name for f in dataclasses.fields(self) if f.name != 'kind')
        )
        for name in ('in_channels', 'out_channels'):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f'{owner}: groups is {self.groups}, it must divide {name} '
                    f'= {getattr(self, name)}'
                )

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image; pooling counts none."""
        if self.kind not in ('conv', 'fc'):
            return 0
        per_output = self.in_channels // self.groups * self.kernel**2
        return per_output * self.out_channels * self.height * self.width


@dataclass(frozen=True)
class BlockSpec:
    """One residual block, static or dynamic.

    Attributes:
        name: unique within the network, e.g. 'layer1.0'.
        stage: 0-based stage; blocks of one stage share a feature size and a granularity.
        kind: 'bottleneck' (1x1, 3x3, 1x1) or 'basic' (3x3, 3x3).
        in_channels, mid_channels, out_channels: of the block's input, inside, output. A basic block
            has mid_channels == out_channels.
        height, width: size of the block's *output* map, after its stride.
        stride: of the 3x3 convolution that reduces the map.
        dilation, groups: of the 3x3 convolution.
        shortcut: True when the identity goes through a (dense) 1x1 convolution.
        granularity: S, edge of a patch in output pixels; None is a static block.
        se_channels: channels inside a squeeze-and-excitation after the 3x3 convolution; 0 is none.
        conv1_stride: stride of the first convolution; None is that of the block in a basic block
            and 1 in a bottleneck, where style 'caffe' has the block's, too.
        conv1_dilation, conv2_dilation: of the first and the second convolution; None puts the
            block's dilation where it has one: into conv1 of a basic block, conv2 of a bottleneck.
        input_size: (height, width) of the block's input; None is its output times the stride.
    """

    name: str
    stage: int
    kind: str
    in_channels: int
    mid_channels: int
    out_channels: int
    height: int
    width: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    shortcut: bool = False
    granularity: int | None = None
    se_channels: int = 0
    conv1_stride: int | None = None
    conv1_dilation: int | None = None
    conv2_dilation: int | None = None
    input_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        owner = f"block '{self.name}'"
        _require_kind(owner, self.kind, BLOCK_KINDS)
        _require_positive(
            owner,
            self,
            (
                'in_channels',
                'mid_channels',
                'out_channels',
                'height',
                'width',
                'stride',
                'dilation',
                'groups',
            ),
        )
        if not isinstance(self.stage, int) or self.stage < 0:
            raise ValueError(f'{owner}: stage is {self.stage!r}, it must be an integer >= 0')
        if not isinstance(self.se_channels, int) or self.se_channels < 0:
            raise ValueError(f'{owner}: se_channels is {self.se_channels!r}, it must be >= 0')
        if self.mid_channels % self.groups:
            raise ValueError(
                f'{owner}: groups is {self.groups}, it must divide mid_channels = '
                f'{self.mid_channels}'
            )
        if self.kind == 'basic' and (self.mid_channels != self.out_channels or self.groups != 1):
            raise ValueError(
                f'{owner}: a basic block has groups 1 and mid_channels equal to '
                f'out_channels = {self.out_channels}, not {self.mid_channels}'
            )
        if self.stride % self.conv1[1]:
            raise ValueError(
                f'{owner}: conv1_stride is {self.conv1_stride}, it must divide stride '
                f'= {self.stride}'
            )
        if self.input_size is not None:  # only what the output does not say
            usual = (self.height * self.stride, self.width * self.stride)
            size = None if tuple(self.input_size) == usual else tuple(self.input_size)
            object.__setattr__(self, 'input_size', size)
        self._check_granularity(owner)

    @property
    def conv1(self) -> tuple[int, int, int]:
        """Kernel, stride and dilation of the first convolution."""
        basic = self.kind == 'basic'
        stride = self.conv1_stride or (self.stride if basic else 1)
        return (
            KERNEL if basic else 1,
            stride,
            self.conv1_dilation or (self.dilation if basic else 1),
        )

    @property
    def conv2(self) -> tuple[int, int, int]:
        """Kernel, stride and dilation of the second convolution."""
        dilation = self.conv2_dilation or (1 if self.kind == 'basic' else self.dilation)
        return KERNEL, self.stride // self.conv1[1], dilation

    @property
    def source(self) -> tuple[int, int]:
        """(height, width) of the input."""
        return self.input_size or (self.height * self.stride, self.width * self.stride)

    @property
    def conv1_map(self) -> tuple[int, int]:
        """(height, width) of the first convolution's output."""
        rows, columns = self.source
        return -(-rows // self.conv1[1]), -(-columns // self.conv1[1])

    def _check_granularity(self, owner: str) -> None:
        if self.granularity is None:
            return
        largest = max(self.height, self.width)
        legal = isinstance(self.granularity, int) and not isinstance(self.granularity, bool)
        if not legal or not 1 <= self.granularity <= largest:
            raise ValueError(
                f'{owner}: granularity is {self.granularity!r}, it must be an integer '
                f'from 1 to {largest}, the longer edge of its output map'
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; the last ones are cut where S does not divide the map."""
        size = self.granularity or max(self.height, self.width)
        return -(-self.height // size), -(-self.width // size)

    def with_granularity(self, granularity: int | None) -> BlockSpec:
        return dataclasses.replace(self, granularity=granularity)


@dataclass(frozen=True)
class NetworkSpec:
    """A backbone: stem, blocks, head.

    Attributes:
        name: for people.
        input_size: (height, width) of the image.
        blocks: the residual blocks, in order.
        stem, head: static operators before and after them.
    """

    name: str
    input_size: tuple[int, int]
    blocks: tuple[BlockSpec, ...]
    stem: tuple[LayerSpec, ...] = ()
    head: tuple[LayerSpec, ...] = ()

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError(f"network '{self.name}': blocks is empty, give at least one block")
        names = [block.name for block in self.blocks]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise ValueError(f"network '{self.name}': block name '{twice}' is used twice")

    @property
    def granularity(self) -> tuple[int | None, ...]:
        """S_net: the granularity of each stage."""
        per_stage = {block.stage: block.granularity for block in self.blocks}
        return tuple(per_stage[stage] for stage in sorted(per_stage))

    def with_granularity(self, granularity: Granularity) -> NetworkSpec:
        """The same network with another S_net (string '4-4-7-1', sequence, or None)."""
        stages = sorted({block.stage for block in self.blocks})
        sizes = dict(zip(stages, parse_granularity(granularity, len(stages)), strict=True))
        blocks = tuple(block.with_granularity(sizes[block.stage]) for block in self.blocks)
        return dataclasses.replace(self, blocks=blocks)

    def to_dict(self) -> dict:
        """Plain dict of numbers, strings and lists; ``from_dict`` reads it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, entry: Mapping) -> NetworkSpec:
        """Inverse of ``to_dict``. ValueError names the faulty block and field."""
        if not isinstance(entry, Mapping):
            raise ValueError('a network must be a mapping with name, input_size and blocks')
        for key in ('name', 'input_size', 'blocks'):
            if key not in entry:
                raise ValueError(f"network: field '{key}' is missing")
        size = entry['input_size']
        if not isinstance(size, (list, tuple)) or len(size) != 2:
            raise ValueError(f'network: input_size is {size!r}, it must be [height, width]')

        def read(spec_class: type[Spec], key: str) -> tuple[Spec, ...]:
            items = entry.get(key) or ()
            if not isinstance(items, (list, tuple)):
                raise ValueError(f'network: {key} must be a list')
            return tuple(_from_mapping(spec_class, f'{key}[{i}]', x) for i, x in enumerate(items))

        return cls(
            str(entry['name']),
            tuple(size),
            read(BlockSpec, 'blocks'),
            read(LayerSpec, 'stem'),
            read(LayerSpec, 'head'),
        )

    def save(self, path: str | Path) -> None:
        """Write YAML or JSON (by suffix), whole or not at all."""
        path = Path(path)
        content = self.to_dict()
        text = (
            json.dumps(content, indent=2)
            if path.suffix == '.json'
            else yaml.safe_dump(content, sort_keys=False)
        )
        temporary = path.with_name(path.name + '.tmp')
        temporary.write_text(text, encoding='utf-8')
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | Path) -> NetworkSpec:
        """Read a YAML or JSON file written by ``save`` or by hand."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"network file '{path}' does not exist")
        try:
            return cls.from_dict(yaml.safe_load(path.read_text(encoding='utf-8')))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(
                f'{path} is not readable YAML or JSON: {" ".join(str(error).split())}'
            ) from None


def parse_granularity(granularity: Granularity, stages: int) -> tuple[int | None, ...]:
    """S_net as one S per stage: '4-4-7-1', (4, 4, 7, 1), one int for all, or None (static)."""
    if granularity is None or isinstance(granularity, int):
        return (granularity,) * stages
    parts = granularity.split('-') if isinstance(granularity, str) else granularity
    try:
        sizes = tuple(None if p is None else int(p) for p in parts)
    except (TypeError, ValueError):
        sizes = ()
    if len(sizes) != stages:
        raise ValueError(
            f"granularity is {granularity!r}: give {stages} integers, one per stage, like '4-4-7-1'"
        )
    return sizes
