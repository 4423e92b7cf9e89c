"""Blocks in the format of the C++ extension."""

from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from las_mm.executors.folding import FoldedBlock, FoldedConv, activations, fold_block
from las_mm.layers import DynamicBlock, SpatialMasker, SqueezeMasker
from las_mm.ops.native.build import load_native

from .rounding import round_weights

# Patches of a static block, whose granularity nobody sees: any small number of list entries.
STATIC_GRANULARITY = 8
# Of a block that is computed whole or not at all: one patch that covers any feature.
WHOLE_GRANULARITY = 1 << 20


def pooled_identity(pooled: FoldedBlock | None, x: Tensor) -> Tensor | None:
    """The shortcut of a block that pools it, in channels-last memory; None for any other."""
    if pooled is None:
        return None
    return pooled.identity(x).contiguous(memory_format=torch.channels_last)


def why_not_packable(block: DynamicBlock, dtype: torch.dtype) -> str | None:
    """The reason why the extension cannot run a block that can be folded, None if it can."""
    if reason := why_no_kernels(dtype):
        return reason
    convs = [step.op for step in block.branch.steps]
    if convs[-1].stride[0] > 1 or len(convs) == 3 and convs[-1].kernel_size[0] > 1:
        return 'its last convolution is strided or, in a bottleneck, larger than 1×1'
    end = activations(block.branch)[-1]
    if end is not None and not isinstance(end, nn.ReLU):
        return f'a {type(end).__name__} follows its sum'
    depths = [c.in_channels // c.groups for c in convs if not is_depthwise(c) or c is convs[-1]]
    odd = dtype == torch.bfloat16 and any(depth % 2 for depth in depths)
    return 'it has an odd number of channels, and bfloat16 goes in pairs' if odd else None


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution goes channel by channel."""
    return 1 < conv.groups == conv.in_channels == conv.out_channels


def why_no_kernels(dtype: torch.dtype) -> str | None:
    """The reason why the extension cannot compute in this dtype here, None if it can."""
    native, reason = load_native()
    if native is None:
        return reason
    isas = {torch.float32: native.float32_isas, torch.bfloat16: native.bfloat16_isas}.get(dtype)
    return None if isas and isas() else f'this CPU has no instructions for {dtype}'


def pack_block(
    block: DynamicBlock, dtype: torch.dtype, isa: str = '', winograd: bool = True
) -> Any:
    """The block in the extension's format.

    Args:
        block: A block that the extension can run.
        dtype: Of its features, torch.float32 or torch.bfloat16.
        isa: Instruction set, one of the extension's ``float32_isas()`` or ``bfloat16_isas()``; by
            default the best one of this CPU.
        winograd: Whether 3×3 convolutions may be computed by Winograd's algorithm, where it is
            faster.
    """
    native = cast(ModuleType, load_native()[0])
    kind = native.Float32Block if dtype == torch.float32 else native.BFloat16Block
    folded = fold_block(block, torch.float32)
    shortcut = None if folded.pool or not folded.shortcut else plain(folded.shortcut, dtype)
    masker, granularity = deciding(block)
    gate = folded.gate and (plain(folded.gate.squeeze), plain(folded.gate.excite))
    convs = [plain(conv, dtype) for conv in folded.convs]
    limits = list(folded.limits)
    return kind(convs, gate, shortcut, masker, granularity, isa, winograd, limits, folded.adds)


def deciding(block: DynamicBlock) -> tuple[tuple[Tensor, float] | None, int]:
    """What decides on patches, as the extension wants it, and their edge."""
    masker = block.spatial_masker
    if masker is None:
        return None, STATIC_GRANULARITY
    if isinstance(masker, SqueezeMasker):
        return None, masker.granularity  # it decides in PyTorch
    weight, bias = masker.difference()
    return (weight, bias.item()), masker.granularity or WHOLE_GRANULARITY


def plain(conv: FoldedConv, dtype: torch.dtype = torch.float32) -> tuple:
    """A convolution as the extension takes it.

    Args:
        conv: The convolution, in single precision.
        dtype: In which its weights will be packed.
    """
    weight = round_weights(conv.weight) if dtype == torch.bfloat16 else conv.weight
    return weight, conv.bias, conv.stride, conv.dilation, conv.groups


def decided_mask(masker: SpatialMasker | None, x: Tensor) -> Tensor | None:
    """The mask that is replayed, or decided outside of the extension, as it wants it; else None."""
    if masker is None or masker.decided is None and not isinstance(masker, SqueezeMasker):
        return None
    decided = cast(Tensor, masker(x) if masker.decided is None else masker.decided)
    if decided.dtype != torch.float32 or decided.device.type != 'cpu':
        decided = decided.to('cpu', torch.float32)
    return decided if len(decided) == len(x) else decided.expand(len(x), -1, -1, -1).contiguous()
