"""All blocks of a stage in 8 bits, between features in single precision."""

from collections.abc import Sequence
from types import ModuleType
from typing import cast

import torch
from torch import Tensor

from las_mm.layers import DynamicBlock
from las_mm.ops.native.build import load_native

from .chain import Chain, why_not_watchable
from .int8 import pack_bytes, ranges_of, why_not_quantizable
from .packing import decided_mask


class Int8Chain(Chain):
    """Consecutive quantized blocks, packed, and what they were packed from.

    Args:
        blocks: The blocks, for which :func:`why_not_int8` is None.
        x: An input of the first block, in float32.
    """

    def __init__(self, blocks: Sequence[DynamicBlock], x: Tensor) -> None:
        native = cast(ModuleType, load_native()[0])
        packed, made = zip(*map(pack_bytes, blocks), strict=True)
        self._native = native.Int8Chain(list(packed), made[0].step, made[-1].out_step)
        self._shortcut = blocks[0].branch.shortcut if made[0].shortcut is None else None
        self._factor = made[0].step / made[0].out_step
        self._watch_blocks(blocks, x.dtype)

    def run(self, x: Tensor, private: bool = False) -> Tensor:
        """As :meth:`~las_mm.executors.cpu.chain.Chain.run`; the input is never written over."""
        sizes = self._input_sizes((x.shape[-2], x.shape[-1]))
        x = x.contiguous(memory_format=torch.channels_last)
        decided = [decided_mask(masker, x) for masker in self._maskers]
        out, masks = self._native.run(x, self._identity(x), decided)
        for block, mask, size in zip(self._blocks, masks, sizes, strict=True):
            block.remember(() if mask is None else (mask,), size, x.shape[0])
        return out

    def _identity(self, x: Tensor) -> Tensor | None:
        """The first block's shortcut if it is one without parameters, in steps of its output."""
        if self._shortcut is None:
            return None
        steps = self._native.quantize(x).float()
        steps = (self._shortcut(steps) * self._factor).round().clamp_(0, 255)
        return steps.to(torch.uint8).contiguous(memory_format=torch.channels_last)


def why_not_int8(blocks: Sequence[DynamicBlock], x: Tensor) -> str | None:
    """The reason why the blocks cannot be an :class:`Int8Chain` for x, None if they can."""
    if x.device.type != 'cpu' or x.dtype != torch.float32:
        return f'x is in {x.dtype} on {x.device}, not in float32 on the CPU'
    if reason := why_not_watchable(blocks, x):
        return reason
    if reason := why_not_quantizable(blocks):
        return reason
    if any(ranges_of(block) is None for block in blocks):
        return 'they are not calibrated; call las_mm.quantize(model, loader)'
    return None
