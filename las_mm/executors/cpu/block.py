"""Native sparse execution on CPU: a C++ call for a block (Sec. 3.4)."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from las_mm.executors.folding import FoldedBlock, fold_block, why_not_foldable
from las_mm.executors.memory import Memory
from las_mm.executors.torch_rows import TorchExecutor
from las_mm.layers import DynamicBlock, Executor, Masks, Run

from .channels import NativeChannels, prepare_channels, run_channels
from .packing import decided_mask, pack_block, pooled_identity, why_not_packable


@dataclass(frozen=True)
class NativeBlock:
    """A block as the extension has it.

    Attributes:
        packed: Its parameters in the extension's format.
        pooled: The folded block if its shortcut pools first, which is left to PyTorch; else None.
        in_place: Whether a private input may become the output: it is the shortcut.
    """

    packed: Any
    pooled: FoldedBlock | None
    in_place: bool


class CpuExecutor(Executor[DynamicBlock]):
    """Runs the whole block in the C++ extension."""

    name = 'cpu'

    def __init__(self) -> None:
        self.fallback = TorchExecutor()
        self.memory = Memory()

    def prepare(self, block: DynamicBlock, x: Tensor) -> Run | str:
        if x.device.type != 'cpu':
            return f'x is on {x.device}, not on the CPU'
        found = self.pack(block, x.dtype)
        if isinstance(found, NativeChannels):
            return partial(run_channels, block, found)
        return found if isinstance(found, str) else partial(_run, block, found)

    def pack(self, block: DynamicBlock, dtype: torch.dtype) -> NativeBlock | NativeChannels | str:
        """The block for features of a dtype, packed once, or the reason why it cannot be packed."""
        make = prepare_channels if 'channel_masker' in block._modules else prepare_block
        return self.memory.remember(make, block, dtype)

    def __reduce__(self) -> tuple:
        return type(self), ()


def prepare_block(block: DynamicBlock, dtype: torch.dtype) -> NativeBlock | str:
    """The packed block, or the reason why the extension cannot run it; to be remembered."""
    if reason := why_not_foldable(block, dtype) or why_not_packable(block, dtype):
        return reason
    folded = fold_block(block, dtype)
    pooled = replace(folded, convs=(), gate=None) if folded.pool else None
    in_place = folded.adds and block.branch.shortcut is None
    return NativeBlock(pack_block(block, dtype), pooled, in_place)


def _run(
    block: DynamicBlock, prepared: NativeBlock, x: Tensor, private: bool = False
) -> tuple[Tensor, Masks]:
    """The output in channels-last memory, and the mask of a dynamic block."""
    x = x.contiguous(memory_format=torch.channels_last)
    in_place = private and prepared.in_place
    identity = pooled_identity(prepared.pooled, x)
    out, mask = prepared.packed.run(x, identity, decided_mask(block.spatial_masker, x), in_place)
    return out, () if mask is None else (mask,)
