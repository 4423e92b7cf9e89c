"""Blocks and stems as objects of the library ``las_mm``, for programs that are recorded."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from las_mm.executors.folding import fold_block
from las_mm.layers import ChannelMasker, DynamicBlock

from .packing import deciding, plain
from .stem import parts_of_stem


def chain_object(blocks: Sequence[DynamicBlock], dtype: torch.dtype) -> Any:
    """Blocks that follow each other, for which the extension has kernels, as one object.

    Args:
        blocks: The blocks, which the CPU executor can pack.
        dtype: Of their features, torch.float32 or torch.bfloat16.
    """
    specs = [_spec(block, dtype) for block in blocks]
    return torch.classes.las_mm.Chain(specs, dtype == torch.bfloat16)


def stem_object(layers: nn.ModuleList, dtype: torch.dtype) -> Any | None:
    """The layers of :func:`~las_mm.executors.cpu.stem.pack_stem` as an object, None likewise."""
    packable = parts_of_stem(layers, dtype)
    if packable is None:
        return None
    folded, window, limit, alone = packable
    pool = [] if alone else list(window)
    low = dtype == torch.bfloat16
    return torch.classes.las_mm.Stem(plain(folded, dtype), pool, limit, low)


def _spec(block: DynamicBlock, dtype: torch.dtype) -> tuple:
    """``BlockSpec`` of operators.h."""
    folded = fold_block(block, torch.float32)
    masker, granularity = deciding(block)
    row: list[Tensor] = []
    if masker is not None:
        row = [masker[0], torch.tensor(masker[1], dtype=torch.float64)]
    channels = cast(ChannelMasker | None, block._modules.get('channel_masker'))
    layers = [] if channels is None else [t for pair in channels.layers() for t in pair]
    skipped = [cast(Tensor, conv.skipped) for conv in folded.convs[:-1]]
    return (
        [plain(conv, dtype) for conv in folded.convs],
        [-1.0 if limit is None else limit for limit in folded.limits],
        [] if channels is None or folded.zeroed else skipped,
        [plain(folded.gate.squeeze), plain(folded.gate.excite)] if folded.gate else [],
        [plain(folded.shortcut, dtype)] if folded.shortcut and not folded.pool else [],
        row,
        layers,
        granularity,
        folded.adds,
        channels is not None,
    )
