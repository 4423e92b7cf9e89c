"""The executor: what it can run, and how torch.compile and CUDA graphs see it."""

from importlib.util import find_spec
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor

from las_mm.ops.folding import remember, why_not_foldable
from las_mm.ops.geometry import conv_size, grid_size

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LARGEST_MAP = 2**31  # elements: the kernels count in 32 bits
LARGEST_INDEX_WINDOW = 32  # edge of a patch in the hidden map that one program can index


def why_not_triton(block: 'DynamicBlock', x: Tensor) -> str | None:
    """The reason why :func:`execute_triton` cannot run the block on ``x``, None if it can."""
    if torch.compiler.is_compiling():
        return _why_not_structure(block, x.dtype) or _why_not_input(block, x)
    return _why_not_input(block, x) or remember(_why_not_packable, block, x.dtype)


def execute_triton(block: 'DynamicBlock', x: Tensor) -> tuple[Tensor, Tensor]:
    """Run the block with fused kernels; the host never waits for what the masker decides.

    Args:
        block: A block for which :func:`why_not_triton` is None, in inference.
        x: (N, C, H, W).

    Returns:
        relu(M ⊙ branch(x) + identity(x)) in channels-last memory, and the mask (N, 1, h, w).
    """
    if torch.compiler.is_compiling():
        out, mask = torch.ops.las_mm.triton_block(x, block_number(block))
        return out, mask
    return _run(block, x)


def _run(block: 'DynamicBlock', x: Tensor) -> tuple[Tensor, Tensor]:
    from .block import run_block
    from .options import current_options
    from .packing import pack_block
    from .plan import current_plan

    plan = current_plan()
    planned = None if plan is None else plan.run(block, x)
    if planned is not None:
        return planned
    return run_block(remember(pack_block, block, x.dtype), x, current_options())


def _why_not_input(block: 'DynamicBlock', x: Tensor) -> str | None:
    if find_spec('triton') is None:
        return 'Triton is not installed'
    if not x.is_cuda:
        from .launch import interpreted

        if not interpreted():
            return f'its input is on {x.device.type}, not on a GPU'
        if x.dtype == torch.bfloat16:
            return "Triton's interpreter multiplies the bits of torch.bfloat16 as integers"
    if x.dtype not in DTYPES:
        return f'its features are {x.dtype}'
    channels = max(conv.out_channels for conv, _ in block.branch_layers())
    if len(x) * x.shape[2] * x.shape[3] * max(channels, x.shape[1]) >= LARGEST_MAP:
        return f'a feature map has {LARGEST_MAP} elements or more'
    return None


def _why_not_packable(block: 'DynamicBlock', dtype: torch.dtype) -> str | None:
    """What does not depend on the input; to be asked by ``remember``."""
    if not block.is_dynamic:
        return 'it is static'
    window = block.masker.granularity * block.conv2.stride[0]
    if window > LARGEST_INDEX_WINDOW:
        return f'its patches are {window} pixels wide, more than {LARGEST_INDEX_WINDOW}'
    return why_not_foldable(block, dtype)


# torch.compile: the executor is one operator that names the block by a number. Folding, tuning and
# launching happen inside of it, where nothing is traced.

_numbers: WeakKeyDictionary = WeakKeyDictionary()
_blocks: WeakValueDictionary = WeakValueDictionary()


@torch.compiler.assume_constant_result
def block_number(block: 'DynamicBlock') -> int:
    """The block's number, the same whenever it is asked for; copies of it have their own."""
    if block not in _numbers:
        _numbers[block] = len(_numbers) + 1 if not _blocks else max(_blocks) + 1
        _blocks[_numbers[block]] = block
    return _numbers[block]


@torch.compiler.assume_constant_result
def _why_not_structure(block: 'DynamicBlock', dtype: torch.dtype) -> str | None:
    return remember(_why_not_packable, block, dtype)


@torch.library.custom_op('las_mm::triton_block', mutates_args=())
def triton_block(x: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """:func:`execute_triton` of the block with this :func:`block_number`."""
    return _run(_blocks[number], x)


@triton_block.register_fake
def _(x: Tensor, number: int) -> tuple[Tensor, Tensor]:
    block = _blocks[number]
    height, width = conv_size(x.shape[-2:], block.stride_product)
    *_, (last, _norm) = block.branch_layers()
    out = x.new_empty(len(x), last.out_channels, height, width)
    grid = grid_size((height, width), block.masker.granularity)
    mask = x.new_empty(len(x), 1, *grid, dtype=block.masker.conv.weight.dtype)
    return out.contiguous(memory_format=torch.channels_last), mask
