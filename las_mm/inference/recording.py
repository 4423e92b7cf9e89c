"""Optimized parts within programs that others record: ``torch.export`` and ``torch.compile``.

An export is a snapshot: it calls operators of the library ``las_mm`` on packed objects, made of
the weights as they are then. A compiled model runs along with its weights, which may change: it
calls an operator that names the stage by its number, and the stage runs as without a compiler.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils._python_dispatch import _disable_current_modes

from las_mm.executors.cpu.chain import why_not_blocks
from las_mm.executors.cpu.objects import chain_object, stem_object
from las_mm.layers import DynamicBlock
from las_mm.layers.numbering import numbered_block
from las_mm.ops import conv_size
from las_mm.ops.gradients import wants_gradients
from las_mm.ops.native.operators import ceil_div, empty_features, load_operators
from las_mm.ops.reasons import log_once

Made = TypeVar('Made')


def export_stage(blocks: Sequence[DynamicBlock], x: Tensor) -> Tensor | None:
    """The output of a stage in an exported program, in one operator; None if it must be dense.

    Each block has its masks for its trace.

    Args:
        blocks: The blocks of the stage.
        x: (N, C, H, W).
    """
    reason = _why_not_export(blocks, x)
    packed = None
    if reason is None:
        made = _of_real_weights(nn.ModuleList(blocks), x, lambda: _pack(blocks, x.dtype))
        reason, packed = (made, None) if isinstance(made, str) else (None, made)
    if packed is None:
        log_once(f'export: some stages are recorded densely: {reason}')
        return None
    first = blocks[0].branch.shortcut
    pooled = first is not None and len(list(first.children())) != 2
    identity = blocks[0].identity(x) if pooled else None
    out, *masks = torch.ops.las_mm.chain(packed, x, identity)
    size = x.shape[-2], x.shape[-1]
    for block in blocks:
        count = len(block.maskers)
        block.remember(tuple(masks[:count]), size, x.shape[0])
        masks, size = masks[count:], conv_size(size, block.stride_product)
    return out


def _why_not_export(blocks: Sequence[DynamicBlock], x: Tensor) -> str | None:
    if x.device.type != 'cpu':
        return 'other devices have no native executor'
    if any(wants_gradients(block, x) for block in blocks):
        return 'gradients are wanted; export within torch.no_grad()'
    if any(part.training for block in blocks for part in (block, *block.maskers)):
        return 'a block is in training mode'
    if any(masker.decided is not None for block in blocks for masker in block.maskers):
        return 'masks are replayed'
    return load_operators()


def _pack(blocks: Sequence[DynamicBlock], dtype: torch.dtype) -> Any:
    """The object, or the reason why there is none."""
    return why_not_blocks(blocks, torch.empty(0, dtype=dtype)) or chain_object(blocks, dtype)


def export_stem(layers: nn.ModuleList, x: Tensor) -> Tensor | None:
    """The output of a stem in an exported program, in one operator; None if it must be dense."""
    if x.device.type != 'cpu' or wants_gradients(layers, x) or load_operators():
        return None
    packed = _of_real_weights(layers, x, lambda: stem_object(layers, x.dtype))
    return None if packed is None or isinstance(packed, str) else torch.ops.las_mm.stem(packed, x)


def _of_real_weights(module: nn.Module, x: Tensor, make: Callable[[], Made]) -> Made | str:
    """What is made of a module's weights while an export has put symbols in their place."""
    fakes = [*module.named_parameters(), *module.named_buffers()]
    mode = next(
        (t.fake_mode for t in (x, *(f for _, f in fakes)) if isinstance(t, FakeTensor)), None
    )
    try:
        converter = cast(Any, mode).fake_tensor_converter.meta_converter
        known = converter.describer.lookup_tensor.items()
        real = {id(converter.tensor_memo.get(number)): tensor for tensor, number in known}
        tensors = {name: real[id(fake)] for name, fake in fakes}
    except (AttributeError, KeyError):  # of another PyTorch
        return 'this PyTorch hides the weights while it exports'
    with _undisturbed(), _reparametrize_module(module, tensors, tie_weights=True):
        return make()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Compute with numbers while others record."""
    with _disable_current_modes(), torch.no_grad():
        yield


@torch.library.custom_op('las_mm::optimized_stage', mutates_args=())
def optimized_stage(x: Tensor, number: int) -> Tensor:
    """The stage with this number, run as it runs without a compiler."""
    out = cast(Any, numbered_block(number)).run(x)
    return out.contiguous(memory_format=torch.channels_last)


@optimized_stage.register_fake
def _optimized_stage_size(x: Tensor, number: int) -> Tensor:
    stage = numbered_block(number)
    blocks = cast(list[DynamicBlock], list(stage.children()))
    size = [x.shape[2], x.shape[3]]
    for block in blocks:
        size = [ceil_div(edge, block.stride_product) for edge in size]
    dtype = stage.__dict__.get('_dtype') if stage.__dict__.get('_leads_on') else None
    like = x if dtype is None else x.new_empty(0, dtype=dtype)
    channels = blocks[-1].branch.steps[-1].op.out_channels
    return empty_features(like, (x.shape[0], channels, *size))
