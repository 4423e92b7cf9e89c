"""Encoder layers without what they skip, their linear layers in the C++ extension."""

from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from las_mm.executors.memory import Memory
from las_mm.executors.torch_tokens import (
    TokenExecutor,
    mix,
    pass_values,
    run_sparse,
    why_not_sparse,
)
from las_mm.layers import EncoderBlock, Executor, Run
from las_mm.ops.native.build import load_native


@dataclass(frozen=True)
class Matrix:
    """A linear layer as the extension has it, whole or in a part for each head.

    Attributes:
        parts: One or as many as there are heads.
        sizes: Inputs and outputs of each.
        bias: Of a layer cut by its inputs, to be added once; None where the parts have it.
    """

    parts: list[Any]
    sizes: tuple[int, int]
    bias: Tensor | None = None

    def run(self, x: Tensor, heads: list[int] | None, out: Tensor | None = None) -> Tensor:
        """The outputs of the kept heads' parts side by side, or their sum; added to ``out``.

        Args:
            x: (T, inputs) of all heads or of the kept ones.
            heads: Numbers of kept heads; None for all.
            out: What is added to, in place; None for nothing.
        """
        kept = list(range(len(self.parts))) if heads is None or len(self.parts) == 1 else heads
        inputs, outputs = self.sizes
        adds = out is not None
        if self.bias is None:
            if out is None:
                out = x.new_empty(x.shape[0], outputs * len(kept))
            for place, head in enumerate(kept):
                columns = slice(place * outputs, (place + 1) * outputs)
                self.parts[head].run(x, out[:, columns], adds)
            return out
        out = self.bias.expand(x.shape[0], -1).clone() if out is None else out.add_(self.bias)
        places = kept if x.shape[1] == inputs * len(self.parts) else range(len(kept))
        for place, head in zip(places, kept, strict=True):
            self.parts[head].run(x[:, place * inputs : (place + 1) * inputs], out, True)
        return out


@dataclass(frozen=True)
class NativeLayer:
    """The linear layers of an encoder layer.

    Where heads are skipped these are cut: into a head's queries, keys and values; what the
    projection and, by the head's mode, the MLP read of it, or its share of hidden units.
    """

    qkv: Matrix
    proj: Matrix
    first: Matrix
    second: Matrix


class CpuTokenExecutor(Executor[EncoderBlock]):
    """As :class:`~las_mm.executors.TokenExecutor`, with packed matrices and the additions in them.

    Args:
        name: What it is called, as configs have one name for all kinds of blocks.
    """

    def __init__(self, name: str = 'cpu') -> None:
        self.name = name
        self.fallback = TokenExecutor()
        self.memory = Memory()

    def prepare(self, block: EncoderBlock, x: Tensor) -> Run | str:
        if reason := why_not_sparse(block, x):
            return reason
        found = self.memory.remember(pack_layer, block, x.dtype)
        if isinstance(found, str):
            return found
        halves = partial(_attend, block, found), partial(_feed, block, found)
        return lambda x, private: run_sparse(block, x, *halves)

    def __reduce__(self) -> tuple:
        return type(self), (self.name,)


def pack_layer(block: EncoderBlock, dtype: torch.dtype) -> NativeLayer | str:
    """The packed matrices, or the reason why the extension cannot run them; to be remembered."""
    native, missing = load_native()
    if native is None:
        return cast(str, missing)
    if dtype != torch.float32 or any(p.dtype != dtype for p in block.parameters()):
        return f'encoder layers are native in float32, not in {dtype}'
    if not all(isinstance(scale, nn.Identity) for scale in (block.attn.gamma1, block.ffn.gamma2)):
        return 'its attention or MLP is scaled'
    heads, mode = block.attn.num_heads, block.head_mode
    skips = 'head_masker' in block._modules
    if skips and heads == 1:
        return 'its only head can be skipped'
    qkv, proj, first, second = block.linears.values()
    cut = heads if skips and mode != 'attention' else 1
    order = torch.arange(qkv.out_features).view(3, heads, -1).transpose(0, 1).flatten()
    return NativeLayer(
        qkv=_pack(native, qkv, cut, by_inputs=False, order=order),
        proj=_pack(native, proj, cut, by_inputs=True),
        first=_pack(native, first, cut, by_inputs=mode == 'input'),
        second=_pack(native, second, cut if mode == 'hidden' else 1, by_inputs=True),
    )


def _pack(
    native: ModuleType,
    layer: nn.Linear,
    parts: int,
    by_inputs: bool,
    order: Tensor | None = None,
) -> Matrix:
    """The layer in parts of its inputs or of its outputs, these in the order given."""
    weight = layer.weight.detach()
    bias = weight.new_zeros(weight.shape[0]) if layer.bias is None else layer.bias.detach()
    if order is not None:
        weight, bias = weight[order], bias[order]
    weights = weight.chunk(parts, 1 if by_inputs else 0)
    summed = by_inputs and parts > 1
    biases = [torch.zeros_like(bias)] * parts if summed else list(bias.chunk(parts))
    packed = [
        native.Float32Linear(part.contiguous(), own.contiguous())
        for part, own in zip(weights, biases, strict=True)
    ]
    outputs, inputs = weights[0].shape
    return Matrix(packed, (inputs, outputs), bias.clone() if summed else None)


def _attend(
    block: EncoderBlock,
    layer: NativeLayer,
    out: Tensor,
    x: Tensor,
    lengths: list[int],
    heads: list[int] | None,
) -> None:
    """Add attention of kept tokens; see :func:`~las_mm.executors.torch_tokens.attend`."""
    passing = block.head_mode == 'attention' and heads is not None
    kept = None if passing else heads
    qkv = layer.qkv.run(x, kept)
    parts = qkv.unflatten(1, (-1, 3, block.attn.head_dims)).transpose(1, 2)
    if not qkv.shape[1]:  # no head is kept
        mixed = qkv
    elif passing and heads is not None:
        mixed = pass_values(mix(block, parts, lengths), parts[:, 2], heads).flatten(1)
    else:
        mixed = mix(block, parts, lengths).flatten(1)
    layer.proj.run(mixed, kept, out)


def _feed(
    block: EncoderBlock,
    layer: NativeLayer,
    out: Tensor,
    x: Tensor,
    lengths: list[int],
    heads: list[int] | None,
) -> None:
    """Add the MLP of kept tokens; as :func:`_attend`."""
    hidden = layer.first.run(x.contiguous(), heads)
    for step in list(block.ffn.layers[0])[1:]:
        hidden = step(hidden)
    layer.second.run(hidden, heads, out)
