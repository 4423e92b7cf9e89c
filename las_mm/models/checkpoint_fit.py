"""Refusing the checkpoint of another network, which would otherwise load in parts."""

import re
from collections.abc import Iterable
from typing import Any


def check_fit(backbone: Any, state_dict: dict, prefix: str, *_: Any) -> None:
    """Pre-hook of ``load_state_dict``: is this a checkpoint of the same network?

    Missing and unexpected names are left to the loader, as maskers are missing in any static
    checkpoint, and a state dict without blocks is taken as that of another part of the model.

    Raises:
        ValueError: If the checkpoint's backbone has another number of blocks, or weights of
            another shape.
    """
    theirs = {
        name.removeprefix(prefix): weight
        for name, weight in state_dict.items()
        if name.startswith(prefix)
    }
    ours = backbone.state_dict()
    stages = backbone.dynamic_stages
    their_blocks, our_blocks = blocks_per_stage(theirs, stages), blocks_per_stage(ours, stages)
    if not their_blocks:
        return
    kind = type(backbone).__name__
    if [their_blocks.get(stage) for stage in our_blocks] != list(our_blocks.values()):
        raise ValueError(
            f'checkpoint: its backbone has {_dashed(their_blocks)} blocks per stage, the '
            f'{kind} has {_dashed(our_blocks)}; give a checkpoint of the same depth'
        )
    for name in ours.keys() & theirs.keys():
        if theirs[name].shape != ours[name].shape:
            raise ValueError(
                f"checkpoint: its backbone's {name} has shape {tuple(theirs[name].shape)}, that of "
                f'the {kind} {tuple(ours[name].shape)}; give a checkpoint of the same depth, '
                'width and granularity'
            )


def blocks_per_stage(names: Iterable[str], stages: Iterable[str]) -> dict[str, int]:
    """Number of blocks of each of the stages that has any, by the names of parameters."""
    names, counts = list(names), {}
    for stage in stages:
        block = re.compile(re.escape(stage) + r'\.(\d+)\.')
        indices = {match[1] for match in map(block.match, names) if match}
        if indices:
            counts[stage] = len(indices)
    return counts


def _dashed(blocks: dict[str, int]) -> str:
    return '-'.join(map(str, blocks.values()))
