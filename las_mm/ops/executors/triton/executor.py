"""The executor: what it can run, and how torch.compile and CUDA graphs see it."""

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from las_mm.ops.executors.numbering import numbered_block
from las_mm.ops.folding import FoldedBlock, FoldedConv, fold_block, remember, why_not_foldable
from las_mm.ops.geometry import conv_size, grid_size

from .sizes import LARGEST_MAP

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OLDEST_GPU = (8, 0)  # TF32, bfloat16 and asynchronous copies begin here
LARGEST_INDEX_WINDOW = 32  # edge of a patch in the hidden map that one program can index


def why_not_triton(block: 'DynamicBlock', x: Tensor) -> str | None:
    """The reason why :func:`execute_triton` cannot run the block on ``x``, None if it can."""
    channels = max(x.shape[1], block.conv1.out_channels, block.conv2.out_channels)
    if hasattr(block, 'conv3'):
        channels = max(channels, block.conv3.out_channels)
    if len(x) * x.shape[2] * x.shape[3] * channels >= LARGEST_MAP:
        return f'a feature map has {LARGEST_MAP} elements or more'
    machine = _why_not_machine(x.device, x.dtype)
    if machine is not None:
        return machine
    if torch.compiler.is_compiling():
        if not block.is_dynamic:
            return 'torch.compile fuses a static one by itself'
        return _why_not_numbered(block.number, x.dtype)
    return remember(_why_not_packable, block, x.dtype)


def execute_triton(
    block: 'DynamicBlock', x: Tensor, private: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Run the block with fused kernels; the host never waits for what the masker decides.

    Args:
        block: A block for which :func:`why_not_triton` is None, in inference.
        x: (N, C, H, W).
        private: Whether ``x`` is another block's output that nobody else will read: the output may
            then take its place.

    Returns:
        relu(M ⊙ branch(x) + identity(x)) in channels-last memory, and the mask (N, 1, h, w), None
        for a static block, which runs by cuDNN on folded weights.
    """
    if not block.is_dynamic:
        return _run_static(block, x), None
    if torch.compiler.is_compiling():
        out, mask = torch.ops.las_mm.triton_block(x, block.number)
        return out, mask
    return _run(block, x, private)


def _run_static(block: 'DynamicBlock', x: Tensor) -> Tensor:
    folded = remember(_fold_channels_last, block, x.dtype)
    out = x = x.contiguous(memory_format=torch.channels_last)
    for conv in folded.convs[:-1]:
        out = conv(out).relu_()
    if folded.gate is not None:
        means = out.mean((2, 3), dtype=folded.gate.squeeze.bias.dtype)
        out *= folded.gate(means)[..., None, None]
    return folded.convs[-1](out).add_(folded.identity(x)).relu_()


def _fold_channels_last(block: 'DynamicBlock', dtype: torch.dtype) -> FoldedBlock:
    folded = fold_block(block, dtype)
    return replace(
        folded,
        convs=tuple(_channels_last(conv) for conv in folded.convs),
        shortcut=None if folded.shortcut is None else _channels_last(folded.shortcut),
    )


def _channels_last(conv: FoldedConv) -> FoldedConv:
    return replace(conv, weight=conv.weight.contiguous(memory_format=torch.channels_last))


def _run(block: 'DynamicBlock', x: Tensor, private: bool) -> tuple[Tensor, Tensor]:
    from .block import run_block
    from .options import current_options
    from .packing import pack_block
    from .plan import current_plan

    plan = current_plan()
    planned = None if plan is None else plan.run(block, x, private)
    if planned is not None:
        return planned
    packed = remember(pack_block, block, x.dtype)
    return run_block(packed, x, current_options(), private, decided=block.masker.decided)


@torch.compiler.assume_constant_result
def _why_not_machine(device: torch.device, dtype: torch.dtype) -> str | None:
    if find_spec('triton') is None:
        return 'Triton is not installed'
    if device.type == 'cuda':
        capability = torch.cuda.get_device_capability(device)
        if capability < OLDEST_GPU:
            return 'its GPU has compute capability {}.{}, not {}.{} or more'.format(
                *capability, *OLDEST_GPU
            )
    else:
        from .launch import interpreted

        if device.type != 'cpu' or not interpreted():
            return f'its input is on {device.type}, not on a GPU'
        if dtype == torch.bfloat16:
            return "Triton's interpreter multiplies the bits of torch.bfloat16 as integers"
    return None if dtype in DTYPES else f'its features are {dtype}'


def _why_not_packable(block: 'DynamicBlock', dtype: torch.dtype) -> str | None:
    """What does not depend on the input; to be asked by ``remember``."""
    window = block.masker.granularity * block.conv2.stride[0] if block.is_dynamic else 1
    if window > LARGEST_INDEX_WINDOW:
        return f'its patches are {window} pixels wide, more than {LARGEST_INDEX_WINDOW}'
    return why_not_foldable(block, dtype)


@torch.compiler.assume_constant_result
def _why_not_numbered(number: int, dtype: torch.dtype) -> str | None:
    return remember(_why_not_packable, numbered_block(number), dtype)


# torch.compile: the executor is one operator that names the block by its number. Folding, tuning
# and launching happen inside of it, where nothing is traced.


@torch.library.custom_op('las_mm::triton_block', mutates_args=())
def triton_block(x: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """:func:`execute_triton` of the block with this number."""
    return _run(numbered_block(number), x, private=False)


@triton_block.register_fake
def _(x: Tensor, number: int) -> tuple[Tensor, Tensor]:
    block = numbered_block(number)
    height, width = conv_size(x.shape[-2:], block.stride_product)
    *_, (last, _norm) = block.branch_layers()
    out = x.new_empty(len(x), last.out_channels, height, width)
    grid = grid_size((height, width), block.masker.granularity)
    mask = x.new_empty(len(x), 1, *grid, dtype=block.masker.conv.weight.dtype)
    return out.contiguous(memory_format=torch.channels_last), mask
