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
    """

    packed: Any
    pooled: FoldedBlock | None


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
    return NativeChannels(pack_channels(block, dtype), pooled)


def pack_channels(
    block: DynamicBlock, dtype: torch.dtype, isa: str = '', winograd: bool = True
) -> Any:
    """The block in the extension's format; see :func:`~las_mm.executors.cpu.packing.pack_block`."""
    native = cast(ModuleType, load_native()[0])
    kind = native.Float32ChannelBlock if dtype == torch.float32 else native.BFloat16ChannelBlock
    folded = fold_block(block, torch.float32)
    shortcut = None if folded.pool or not folded.shortcut else plain(folded.shortcut)
    masker, granularity = deciding(block)
    gate = folded.gate and (plain(folded.gate.squeeze), plain(folded.gate.excite))
    convs = [plain(conv) for conv in folded.convs]
    inner = folded.convs[:-1]
    skipped = [] if folded.zeroed else [cast(Tensor, conv.skipped) for conv in inner]
    layers = block.channel_masker.layers()
    return kind(convs, skipped, gate, shortcut, masker, layers, granularity, isa, winograd)


def run_channels(
    block: DynamicBlock, prepared: NativeChannels, x: Tensor, private: bool = False
) -> tuple[Tensor, Masks]:
    """The output in channels-last memory, and the masks of the block."""
    x = x.contiguous(memory_format=torch.channels_last)
    in_place = private and block.downsample is None
    identity = pooled_identity(prepared.pooled, x)
    groups = _decided_groups(block.channel_masker, x)
    decided = decided_mask(block.spatial_masker, x)
    outs: list[Tensor] = []
    masks: list[Tensor] = []
    found: list[Tensor] = []
    for image in range(len(x)):
        part = slice(image, image + 1)
        out, mask, computed = prepared.packed.run(
            x[part],
            None if groups is None else groups[image],
            None if identity is None else identity[part],
            None if decided is None else decided[part],
            in_place,
        )
        outs.append(out)
        masks += [] if mask is None else [mask]
        found.append(computed[None])
    out = x if in_place else _joined(outs)
    return out, (_joined(masks), _joined(found)) if masks else (_joined(found),)


def _decided_groups(masker: ChannelMasker, x: Tensor) -> Tensor | None:
    """(N, K) groups to compute, where the extension is not to decide."""
    if masker.decided is not None:
        return masker.decided.to('cpu', torch.float32).expand(len(x), masker.groups)
    return None if masker.linear is None else masker(x).float()


def _joined(images: list[Tensor]) -> Tensor:
    """(1, ...) of each image -> (N, ...), without a copy of a single one."""
    return images[0] if len(images) == 1 else torch.cat(images)
