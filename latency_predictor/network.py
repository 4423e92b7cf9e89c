"""A network as the latency model sees it, and its file."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from numpy.typing import ArrayLike

from .checks import check_rate, is_integer
from .encoder_spec import EncoderSpec
from .reading import read_block, read_layer
from .spec import TOKENS, WHOLE, BlockSpec, LayerSpec, Size

AnyBlock = BlockSpec | EncoderSpec
AnyLayer = LayerSpec | EncoderSpec  # an encoder layer that decides on nothing
Granularity = str | Sequence[int | str | None] | int | None  # S_net


@dataclass(frozen=True)
class NetworkSpec:
    """A backbone: stem, blocks, head.

    Attributes:
        name: For people.
        input_size: (height, width) of the image.
        blocks: In order.
        stem: Static operators before the blocks.
        head: Static operators behind them.
        between: Static operators between two stages, such as DenseNet's transitions.
    """

    name: str
    input_size: Size
    blocks: tuple[AnyBlock, ...]
    stem: tuple[AnyLayer, ...] = ()
    head: tuple[AnyLayer, ...] = ()
    between: tuple[AnyLayer, ...] = ()

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError(f'network {self.name!r}, blocks: got none; give at least one')
        names = [block.name for block in self.blocks]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise ValueError(
                f'network {self.name!r}, blocks: got the name {twice!r} twice; give each its own'
            )

    @property
    def fixed(self) -> tuple[AnyLayer, ...]:
        """All that is in no block and always runs."""
        return (*self.stem, *self.between, *self.head)

    @property
    def granularity(self) -> tuple[int | str | None, ...]:
        """S_net: the granularity of each stage."""
        per_stage = {block.stage: block.granularity for block in self.blocks}
        return tuple(per_stage[stage] for stage in sorted(per_stage))

    def with_granularity(self, granularity: Granularity) -> 'NetworkSpec':
        """The same network with another S_net (string '4-4-7-1', sequence, or None).

        Blocks that cannot skip anything, for want of a shortcut, stay static.
        """
        if self.is_transformer:
            return self.with_tokens(granularity)
        stages = sorted({block.stage for block in self.conv_blocks})
        sizes = dict(zip(stages, parse_granularity(granularity, len(stages)), strict=True))
        blocks = tuple(
            block if block.join == 'none' else block.with_granularity(sizes[block.stage])
            for block in self.conv_blocks
        )
        return dataclasses.replace(self, blocks=blocks)

    def with_channel_groups(self, groups: Granularity) -> 'NetworkSpec':
        """The same network with another G_net, channels per decision in each stage."""
        if self.is_transformer:
            raise ValueError(
                f'channel_groups: got {groups!r} for {self.name!r}; leave it out, heads are '
                'decided on one by one'
            )
        stages = sorted({block.stage for block in self.blocks})
        parsed = parse_granularity(groups, len(stages), 'channel_groups')
        chosen: dict[int, Any] = dict(zip(stages, parsed, strict=True))
        blocks = tuple(block.with_channel_group(chosen[block.stage]) for block in self.conv_blocks)
        return dataclasses.replace(self, blocks=blocks)

    @property
    def is_transformer(self) -> bool:
        """Whether its blocks are encoder layers."""
        return isinstance(self.blocks[0], EncoderSpec)

    @property
    def conv_blocks(self) -> tuple[BlockSpec, ...]:
        """The blocks of a network of convolutions, for what is about their granularity.

        Raises:
            ValueError: If they are encoder layers.
        """
        if self.is_transformer:
            raise ValueError(
                f'network: got {self.name!r}, a transformer; choose one of convolutions: gathered '
                'tokens and heads have no granularity that latency depends on'
            )
        return cast(tuple[BlockSpec, ...], self.blocks)

    def with_policies(
        self, policies: Sequence[str], token_patch: int = 1, keep_layers: int = 1
    ) -> 'NetworkSpec':
        """A transformer with other decisions.

        Args:
            policies: Any of ``'tokens'``, ``'heads'``, ``'blocks'``.
            token_patch: S, edge of a patch of tokens.
            keep_layers: First layers that decide on tokens alone.

        Raises:
            ValueError: If a policy is unknown, or the network is none of encoder layers.
        """
        if not self.is_transformer:
            raise ValueError(f'policies: got {policies!r}; {self.name!r} is not a transformer')
        first = [policy for policy in policies if policy == TOKENS]
        blocks = tuple(
            block.with_policies(first if index < keep_layers else policies, token_patch)
            for index, block in enumerate(self.blocks)
            if isinstance(block, EncoderSpec)
        )
        return dataclasses.replace(self, blocks=blocks)

    def with_tokens(self, token_patch: Granularity) -> 'NetworkSpec':
        """A transformer that decides on S x S patches of tokens alone; None for the static one.

        Raises:
            ValueError: If S is not one integer.
        """
        if token_patch is None:
            return self.static()
        (size,) = parse_granularity(token_patch, 1)
        if not is_integer(size):
            raise ValueError(
                f'granularity: got {token_patch!r} for {self.name!r}; give S in tokens, or None'
            )
        return self.with_policies((TOKENS,), int(size or 1))

    def static(self) -> 'NetworkSpec':
        """The same network without decisions."""
        return dataclasses.replace(self, blocks=tuple(block.static() for block in self.blocks))

    def shares_of_blocks(
        self, shares: Mapping[str, ArrayLike] | ArrayLike | None
    ) -> list[dict[str, float] | float | None]:
        """What ``LatencyModel.network`` is given, block by block.

        Raises:
            ValueError: If a share is not in [0, 1], or there are not as many as blocks.
        """
        if shares is None:
            return [None] * len(self.blocks)
        if not isinstance(shares, Mapping):
            return [float(value) for value in self._per_block('shares', shares)]
        columns = {name: self._per_block(name, s) for name, s in shares.items() if s is not None}
        return [
            {name: float(values[index]) for name, values in columns.items()}
            for index in range(len(self.blocks))
        ]

    def _per_block(self, name: str, values: ArrayLike) -> np.ndarray:
        found = check_rate(name, values)
        if found.shape not in ((), (len(self.blocks),)):
            raise ValueError(
                f'{name}: got {found.size} values; give one, or one for each of the '
                f'{len(self.blocks)} blocks of {self.name!r}'
            )
        return np.broadcast_to(found, len(self.blocks))

    def to_dict(self) -> dict:
        """Plain dict of numbers, strings and lists; ``from_dict`` reads it back."""
        return json.loads(json.dumps(_plain(self)))

    @classmethod
    def from_dict(cls, entry: Mapping) -> 'NetworkSpec':
        """Inverse of ``to_dict``; reads files of before blocks had layers, too.

        Raises:
            ValueError: If a field is missing or wrong; one line that names the block and the field.
        """
        if not isinstance(entry, Mapping):
            raise ValueError(f'network: got {entry!r}; give a mapping of name, input_size, blocks')
        for key in ('name', 'input_size', 'blocks'):
            if key not in entry:
                raise ValueError(f'network, {key}: got nothing; give it')
        size = entry['input_size']
        if not isinstance(size, (list, tuple)) or len(size) != 2:
            raise ValueError(f'network, input_size: got {size!r}; give [height, width]')

        def read(key: str, reader: Any) -> tuple:
            items = entry.get(key) or ()
            if not isinstance(items, (list, tuple)):
                raise ValueError(f'network, {key}: got {items!r}; give a list')
            return tuple(reader(f'{key}[{index}]', item) for index, item in enumerate(items))

        layers = {key: read(key, read_layer) for key in ('stem', 'head', 'between')}
        return cls(str(entry['name']), tuple(size), read('blocks', read_block), **layers)

    def save(self, path: str | Path) -> None:
        """Write YAML or JSON (by suffix), whole or not at all."""
        path = Path(path)
        content = self.to_dict()
        if path.suffix == '.json':
            text = json.dumps(content, indent=2)
        else:
            text = yaml.safe_dump(content, sort_keys=False)
        temporary = path.with_name(path.name + '.tmp')
        temporary.write_text(text, encoding='utf-8')
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | Path) -> 'NetworkSpec':
        """Read a YAML or JSON file written by ``save`` or by hand.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it cannot be read.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f'network: got {str(path)!r}; give a file that exists')
        try:
            return cls.from_dict(yaml.safe_load(path.read_text(encoding='utf-8')))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = ' '.join(str(error).split())
            raise ValueError(f'{path}: got no readable YAML or JSON; repair it: {reason}') from None


def _plain(spec: Any) -> Any:
    """A spec as a dict that leaves out what a field has by default."""
    if isinstance(spec, tuple):
        return [_plain(part) for part in spec]
    if not dataclasses.is_dataclass(spec):
        return spec
    values = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    usual = {field.name: field.default for field in dataclasses.fields(spec)}
    return {key: _plain(value) for key, value in values.items() if value != usual[key]}


def parse_granularity(
    granularity: Granularity, stages: int, field: str = 'granularity'
) -> tuple[int | str | None, ...]:
    """One value per stage of '4-4-7-1', '4-4-7-all', (4, 4, 7, 1), one for all, or None (static).

    Raises:
        ValueError: If there are not as many integers as stages.
    """
    if granularity is None or isinstance(granularity, int) or granularity == WHOLE:
        return (granularity,) * stages
    parts = granularity.split('-') if isinstance(granularity, str) else granularity
    try:
        sizes = tuple(p if p in (None, WHOLE) else int(p) for p in parts)
    except (TypeError, ValueError):
        sizes = ()
    if len(sizes) != stages:
        raise ValueError(
            f"{field}: got {granularity!r}; give {stages} integers, one per stage, like '4-4-7-1'"
        )
    return sizes
