"""Blocks whose features are 8-bit integers: post-training quantization of a folded block.

A feature is a number of equal steps, 0 to 255, of a range that calibration has found. Blocks that
pass their input on as it is share the range of their outputs with those before them, so that the
sum needs no rescaling and skipped pixels stay what they were. Weights are -63 to 63 steps of their
output channel's own: pairs of products then fit into 16 bits, where AVX2 without VNNI sums them, so
that all instruction sets give the same integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from las_mm.executors.folding import FoldedConv, fold_block, why_not_foldable
from las_mm.layers import DynamicBlock, SqueezeMasker
from las_mm.layers.padded_shortcut import PaddedShortcut
from las_mm.ops.native.build import load_native

from .packing import deciding, is_depthwise, why_not_packable

RANGES = 'activation_ranges'  # buffer of a calibrated block
LEVELS, MOST_WEIGHT, ZERO = 255, 63, 128
LARGEST_BIAS = 2.0**22  # in units of a product: exact in single precision


@dataclass(frozen=True)
class ByteConv:
    """A convolution of bytes: ``round((weight * x + bias) * scale)`` are steps of its output.

    Attributes:
        weight: (C_out, C_in / groups, k, k), whole numbers from -63 to 63, in float.
        bias: (C_out,), whole numbers, in float.
        scale: (C_out,).
        folded: The convolution in single precision that it was made of.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor
    folded: FoldedConv


@dataclass(frozen=True)
class ByteBlock:
    """A quantized block.

    Attributes:
        convs: The residual branch.
        shortcut: Convolution of the shortcut, in steps of the output; None for the identity.
        shortcut_step: How many steps of the output are one of the shortcut's own, between which 128
            stands for zero.
        step: What one unit of the input stands for.
        out_step: The same of the output.
    """

    convs: tuple[ByteConv, ...]
    shortcut: ByteConv | None
    shortcut_step: float
    step: float
    out_step: float


def why_not_quantizable(blocks: Sequence[nn.Module]) -> str | None:
    """The reason why the blocks of a stage cannot compute in int8, None if they can."""
    for index, block in enumerate(blocks):
        if not isinstance(block, DynamicBlock):
            return f'a {type(block).__name__} is not a block'
        if reason := _why_not_block(block):
            return reason
        if index > 0 and block.branch.shortcut is not None:
            return 'a shortcut with a convolution stands inside of a stage'
    return None


def _why_not_block(block: DynamicBlock) -> str | None:
    dtype = torch.float32
    if reason := why_not_foldable(block, dtype) or why_not_packable(block, dtype):
        return reason
    folded = fold_block(block, dtype)
    if folded.gate or not folded.adds:
        return 'int8 is for convolutions that are added to a shortcut, without a gate'
    if any(limit != inf for limit in folded.limits):
        return 'int8 is for blocks with a ReLU after every convolution and after the sum'
    shortcut = () if folded.shortcut is None else (folded.shortcut,)
    if any(conv.weight.shape[1] % 4 for conv in (*folded.convs, *shortcut)):
        return 'int8 takes channels in fours; depthwise convolutions and odd widths have fewer'
    if any(is_depthwise(step.op) for step in block.branch.steps):
        return 'int8 has no depthwise convolutions'
    if folded.pool is not None and not isinstance(folded.pool, PaddedShortcut):
        return 'its shortcut pools first'
    return 'it decides in PyTorch' if isinstance(block.spatial_masker, SqueezeMasker) else None


def ranges_of(block: DynamicBlock) -> Tensor | None:
    """(K,) ranges of a calibrated block, None of any other.

    They are those of its input, between its convolutions, of its shortcut and of its output.
    """
    return block._buffers.get(RANGES)


def expect_ranges(backbone: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Pre-hook of ``load_state_dict``: the model becomes one with the ranges of the checkpoint.

    With a checkpoint that has weights and no ranges, it is no longer quantized.
    """
    if not any(name.startswith(prefix) for name in state_dict):
        return
    for name, block in backbone.named_modules():
        if not isinstance(block, DynamicBlock):
            continue
        theirs = state_dict.get(f'{prefix}{name}.{RANGES}')
        block._buffers.pop(RANGES, None)
        if theirs is not None:
            block.register_buffer(RANGES, torch.zeros_like(theirs, device='cpu'))


def quantize_block(block: DynamicBlock) -> ByteBlock:
    """The block in 8 bits.

    Args:
        block: One for which :func:`why_not_quantizable` is None, and which has ranges.
    """
    folded = fold_block(block, torch.float32)
    first, *inner, shortcut, last = cast(Tensor, ranges_of(block)).double().tolist()
    steps = [first / LEVELS, *(step / LEVELS for step in inner), last / LEVELS]
    convs = tuple(map(_quantize_conv, folded.convs, steps, steps[1:]))
    side = None
    if folded.shortcut is not None:
        side = _quantize_conv(folded.shortcut, steps[0], steps[-1])
    own = torch.tensor(shortcut / (ZERO - 1) / steps[-1], dtype=torch.float32).item()
    return ByteBlock(convs, side, own, steps[0], steps[-1])


def _quantize_conv(conv: FoldedConv, step: float, out_step: float) -> ByteConv:
    weight, bias = conv.weight.double(), conv.bias.double() / step
    largest = weight.abs().amax((1, 2, 3)) / MOST_WEIGHT
    units = torch.maximum(largest, bias.abs() / LARGEST_BIAS).clamp(min=1e-30)
    whole = (weight / units.view(-1, 1, 1, 1)).round()
    scale = units * step / out_step
    return ByteConv(whole.float(), (bias / units).round().float(), scale.float(), conv)


def pack_bytes(block: DynamicBlock, isa: str = '') -> tuple[Any, ByteBlock]:
    """The quantized block in the extension's format, and itself.

    Args:
        block: As :func:`quantize_block` takes it.
        isa: Instruction set, one of the extension's ``int8_isas()``; by default the best one of
            this CPU.
    """
    native = cast(ModuleType, load_native()[0])
    made = quantize_block(block)
    masker, granularity = deciding(block)
    if masker is not None:  # it sees steps
        masker = masker[0] * made.step, masker[1]
    shortcut = made.shortcut and (_plain(made.shortcut), made.shortcut_step, ZERO)
    convs = list(map(_plain, made.convs))
    return native.Int8Block(convs, shortcut, masker, granularity, isa), made


def _plain(conv: ByteConv) -> tuple:
    geometry = conv.folded.stride, conv.folded.dilation, conv.folded.groups
    return conv.weight, conv.bias, conv.scale, *geometry
