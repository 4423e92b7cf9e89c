"""Native sparse execution on CPU: a C++ call for a block, or for a stage (Sec. 3.4)."""

from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from las_mm.ops.folding import FoldedBlock, FoldedConv, fold_block, remember, why_not_foldable

from .build import load_native

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock, Masker

# Patches of a static block, whose granularity nobody sees: any small number of list entries.
STATIC_GRANULARITY = 8


def why_not_native(block: 'DynamicBlock', x: Tensor) -> str | None:
    """The reason why :func:`execute_native` cannot run the block on x, None if it can."""
    if x.device.type != 'cpu':
        return f'x is on {x.device}, not on the CPU'
    return remember(_why_not_packable, block, x.dtype)


def _why_not_packable(block: 'DynamicBlock', dtype: torch.dtype) -> str | None:
    if reason := why_not_foldable(block, dtype):
        return reason
    if reason := why_no_kernels(dtype):
        return reason
    convs = [conv for conv, _ in block.branch_layers()]
    if convs[-1].stride[0] > 1 or len(convs) == 3 and convs[-1].kernel_size[0] > 1:
        return 'its last convolution is strided or, in a bottleneck, larger than 1×1'
    odd = dtype == torch.bfloat16 and any(conv.in_channels // conv.groups % 2 for conv in convs)
    return 'it has an odd number of channels, and bfloat16 goes in pairs' if odd else None


def why_no_kernels(dtype: torch.dtype) -> str | None:
    """The reason why the extension cannot compute in this dtype here, None if it can."""
    native, reason = load_native()
    if native is None:
        return reason
    isas = {torch.float32: native.float32_isas, torch.bfloat16: native.bfloat16_isas}.get(dtype)
    return None if isas and isas() else f'this CPU has no instructions for {dtype}'


def pack_block(
    block: 'DynamicBlock', dtype: torch.dtype, isa: str = '', winograd: bool = True
) -> Any:
    """The block in the extension's format; remembered by :func:`execute_native`.

    Args:
        block: A block for which :func:`why_not_native` is None.
        dtype: Of its features, torch.float32 or torch.bfloat16.
        isa: Instruction set, one of the extension's ``float32_isas()`` or ``bfloat16_isas()``; by
            default the best one of this CPU.
        winograd: Whether 3×3 convolutions may be computed by Winograd's algorithm, where it is
            faster.
    """
    native = cast(ModuleType, load_native()[0])
    kind = native.Float32Block if dtype == torch.float32 else native.BFloat16Block
    folded = fold_block(block, torch.float32)
    shortcut = None if folded.pool or not folded.shortcut else _plain(folded.shortcut)
    masker, granularity = None, STATIC_GRANULARITY
    if block.is_dynamic:
        weight, bias = block.masker.difference()
        masker, granularity = (weight, bias.item()), block.masker.granularity
    gate = folded.gate and (_plain(folded.gate.squeeze), _plain(folded.gate.excite))
    convs = [_plain(conv) for conv in folded.convs]
    return kind(convs, gate, shortcut, masker, granularity, isa, winograd)


def fold_pooled_shortcut(block: 'DynamicBlock', dtype: torch.dtype) -> FoldedBlock | None:
    """The folded block if its shortcut pools first, which is left to PyTorch; else None."""
    folded = fold_block(block, dtype)
    return replace(folded, convs=(), gate=None) if folded.pool else None


def _plain(conv: FoldedConv) -> tuple:
    return conv.weight, conv.bias, conv.stride, conv.dilation, conv.groups


def execute_native(
    block: 'DynamicBlock', x: Tensor, private: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Run the whole block in the C++ extension.

    Args:
        block: A block for which :func:`why_not_native` is None, in inference.
        x: (N, C, H, W); copied first unless it is channels-last.
        private: Whether ``x`` is another block's output that nobody else will read: the output
            then takes its place where there is no shortcut convolution.

    Returns:
        relu(M ⊙ branch(x) + identity(x)) in channels-last memory, and the coarse mask, None for a
        static block.
    """
    packed = remember(pack_block, block, x.dtype, checked=True)
    x = x.contiguous(memory_format=torch.channels_last)
    identity, in_place = None, private and block.downsample is None
    if block.downsample is not None:
        folded = remember(fold_pooled_shortcut, block, x.dtype, checked=True)
        if folded is not None:
            identity = folded.identity(x).contiguous(memory_format=torch.channels_last)
    decided = decided_mask(block.masker, x) if block.is_dynamic else None
    return packed.run(x, identity, decided, in_place)


def decided_mask(masker: 'Masker | None', x: Tensor) -> Tensor | None:
    """The mask to replay, as the extension wants it; None to decide, or without a masker."""
    if masker is None or masker.decided is None:
        return None
    decided = masker.decided
    if decided.dtype != torch.float32 or decided.device.type != 'cpu':
        decided = decided.to('cpu', torch.float32)
    return decided if len(decided) == len(x) else decided.expand(len(x), -1, -1, -1).contiguous()
