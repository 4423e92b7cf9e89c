"""Native execution of blocks that skip channels: each image has a narrow block of its own."""

from dataclasses import dataclass, replace
from math import inf
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from las_mm.executors.folding import FoldedBlock, fold_block, why_not_foldable
from las_mm.layers import ChannelMasker, DynamicBlock, Masks
from las_mm.ops.native.build import load_native

from .packing import decided_mask, deciding, plain, pooled_identity, why_not_packable


@dataclass(frozen=True)
class NativeChannels:
    """A block that skips channels as the extension has it.

    Attributes:
        packed: Its parameters, of which each image takes some.
        pooled: The folded block if its shortcut pools first, which is left to PyTorch; else None.
        in_place: Whether a private input may become the output: it is the shortcut.
    """

    packed: Any
    pooled: FoldedBlock | None
    in_place: bool


def prepare_channels(block: DynamicBlock, dtype: torch.dtype) -> NativeChannels | str:
    """The block for the extension, or the reason why it cannot run it; to be remembered."""
    if reason := why_not_foldable(block, dtype, channels=True) or why_not_packable(block, dtype):
        return reason
    branch = block.branch
    if branch.gate is not None and not branch.zeroed:
        return 'its squeeze-and-excitation is over skipped channels that are not zero'
    folded = fold_block(block, dtype)
    if set(folded.limits) != {inf}:
        return 'it skips channels and has other activations than ReLU'
    pooled = replace(folded, convs=(), gate=None) if folded.pool else None
    return NativeChannels(pack_channels(block, dtype), pooled, branch.shortcut is None)


def pack_channels(
    block: DynamicBlock, dtype: torch.dtype, isa: str = '', winograd: bool = True
) -> Any:
    """The block in the extension's format; see :func:`~las_mm.executors.cpu.packing.pack_block`."""
    native = cast(ModuleType, load_native()[0])
    kind = native.Float32ChannelBlock if dtype == torch.float32 else native.BFloat16ChannelBlock
    folded = fold_block(block, torch.float32)
    shortcut = None if folded.pool or not folded.shortcut else plain(folded.shortcut, dtype)
    masker, granularity = deciding(block)
    gate = folded.gate and (plain(folded.gate.squeeze), plain(folded.gate.excite))
    convs = [plain(conv, dtype) for conv in folded.convs]
    inner = folded.convs[:-1]
    skipped = [] if folded.zeroed else [cast(Tensor, conv.skipped) for conv in inner]
    layers = block.channel_masker.layers()
    return kind(convs, skipped, gate, shortcut, masker, layers, granularity, isa, winograd)


def run_channels(
    block: DynamicBlock, prepared: NativeChannels, x: Tensor, private: bool = False
) -> tuple[Tensor, Masks]:
    """The output in channels-last memory, and the masks of the block."""
    x = x.contiguous(memory_format=torch.channels_last)
    in_place = private and prepared.in_place
    identity = pooled_identity(prepared.pooled, x)
    groups = decided_groups(block.channel_masker, x)
    decided = decided_mask(block.spatial_masker, x)
    out, mask, computed = prepared.packed.run(x, groups, identity, decided, in_place)
    return out, (computed,) if mask is None else (mask, computed)


def decided_groups(masker: ChannelMasker | None, x: Tensor) -> Tensor | None:
    """(N, K) groups to compute, where the extension is not to decide."""
    if masker is None:
        return None
    if masker.decided is not None:
        return masker.decided.to('cpu', torch.float32).expand(len(x), masker.groups)
    return None if masker.linear is None else masker(x).float()
