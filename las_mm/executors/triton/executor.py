"""The executor: what it can run, and how torch.compile and CUDA graphs see it."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from las_mm.executors.folding import (
    FoldedBlock,
    FoldedConv,
    activate,
    fold_block,
    why_not_foldable,
)
from las_mm.executors.memory import Memory
from las_mm.executors.torch_rows import TorchExecutor
from las_mm.layers import DynamicBlock, Executor, Masker, Masks, Run, SqueezeMasker
from las_mm.layers.numbering import numbered_block
from las_mm.ops import conv_size, grid_size
from las_mm.ops.compiling import constant_when_compiled

from .options import DEFAULT, Options
from .sizes import LARGEST_MAP

if TYPE_CHECKING:  # these need Triton
    from .channels import PackedChannels
    from .packing import PackedBlock
    from .plan import Plan

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OLDEST_GPU = (8, 0)  # TF32, bfloat16 and asynchronous copies begin here
LARGEST_INDEX_WINDOW = 32  # edge of a patch in the hidden map that one program can index


class TritonExecutor(Executor[DynamicBlock]):
    """Runs blocks with fused kernels; the host never waits for what the masker decides.

    Args:
        options: Switches.
        plan: How the blocks of a backbone run one after the other; see
            :func:`las_mm.inference.planning.plan_backbone`.
    """

    name = 'triton'

    def __init__(self, options: Options = DEFAULT, plan: 'Plan | None' = None) -> None:
        self.options, self.plan = options, plan
        self.fallback = TorchExecutor()
        self.memory = Memory()

    def prepare(self, block: DynamicBlock, x: Tensor) -> Run | str:
        channels = max([x.shape[1], *[step.op.out_channels for step in block.branch.steps]])
        if len(x) * x.shape[2] * x.shape[3] * channels >= LARGEST_MAP:
            return f'a feature map has {LARGEST_MAP} elements or more'
        if reason := why_not_machine(x.device, x.dtype):
            return reason
        if torch.compiler.is_compiling():
            if 'channel_masker' in block._modules:
                return 'it skips channels, and its operator for torch.compile does not'
            if not block.is_dynamic:
                return 'torch.compile fuses a static one by itself'
            return _why_not_numbered(block.number, x.dtype) or partial(_run_numbered, block.number)
        if 'channel_masker' in block._modules:
            cut = self.memory.remember(_pack_channels, block, x.dtype)
            return cut if isinstance(cut, str) else partial(_run_channels, self, block, cut)
        if not block.is_dynamic:
            folded = self.memory.remember(_fold_static, block, x.dtype)
            return folded if isinstance(folded, str) else partial(run_static, folded)
        packed = self.pack(block, x.dtype)
        return packed if isinstance(packed, str) else partial(self._run, block, packed)

    def pack(self, block: DynamicBlock, dtype: torch.dtype) -> 'PackedBlock | str':
        """A dynamic block for the kernels, or the reason why they cannot run it."""
        return self.memory.remember(_pack, block, dtype)

    def _pack(self, block: DynamicBlock, dtype: torch.dtype) -> 'PackedBlock':
        return cast('PackedBlock', self.pack(block, dtype))

    def _run(
        self, block: DynamicBlock, packed: 'PackedBlock', x: Tensor, private: bool = False
    ) -> tuple[Tensor, Masks]:
        """The output in channels-last memory, and the mask."""
        from .block import run_block

        own, decided = _decided(block, packed, x)
        planned = None
        if self.plan is not None:
            planned = self.plan.run(self._pack, block, x, private, decided)
        out, mask = planned or run_block(packed, x, self.options, private, decided=decided)
        return out, (mask if own is None else own,)

    def __reduce__(self) -> tuple:
        return type(self), (self.options,)


def _decided(
    block: DynamicBlock, packed: 'PackedBlock', x: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The mask decided outside of the kernels, if so, and the one for them to take, if any."""
    masker = block.spatial_masker
    if masker is None or masker.granularity is not None:
        return None, None if masker is None else masker.decided
    mask = masker(x)  # for the block as a whole: the kernels see patches that all agree
    grid = grid_size(conv_size(x.shape[-2:], packed.stride), packed.granularity)
    return mask, mask.expand(-1, -1, *grid)


def _pack(block: DynamicBlock, dtype: torch.dtype) -> 'PackedBlock | str':
    """To be remembered: all that does not depend on the input."""
    from .packing import pack_block, patch_of

    window = patch_of(block) * block.branch.steps[1].stride
    if window > LARGEST_INDEX_WINDOW:
        return f'its patches are {window} pixels wide, more than {LARGEST_INDEX_WINDOW}'
    return _why_not_kernels(block, dtype) or pack_block(block, dtype)


def _pack_channels(block: DynamicBlock, dtype: torch.dtype) -> 'PackedChannels | str':
    """The same of a block that skips channels."""
    from .channels import pack_channels, why_not_channels
    from .packing import patch_of

    window = patch_of(block) * block.branch.steps[1].stride
    if window > LARGEST_INDEX_WINDOW:
        return f'its patches are {window} pixels wide, more than {LARGEST_INDEX_WINDOW}'
    reason = _why_not_kernels(block, dtype, channels=True) or why_not_channels(block)
    return reason or pack_channels(block, dtype)


def _run_channels(
    executor: TritonExecutor,
    block: DynamicBlock,
    packed: 'PackedChannels',
    x: Tensor,
    private: bool = False,
) -> tuple[Tensor, Masks]:
    from .channels import run_channels

    return run_channels(block, packed, executor.options, x, private)


def _why_not_kernels(block: DynamicBlock, dtype: torch.dtype, channels: bool = False) -> str | None:
    if reason := why_not_foldable(block, dtype, channels):
        return reason
    if isinstance(block.spatial_masker, SqueezeMasker):
        return 'its kernels decide by the mean of a patch, not as a SqueezeMasker does'
    return None


def _fold_static(block: DynamicBlock, dtype: torch.dtype) -> FoldedBlock | str:
    return _why_not_kernels(block, dtype) or _fold_channels_last(block, dtype)


def run_static(folded: FoldedBlock, x: Tensor, private: bool = False) -> tuple[Tensor, Masks]:
    """A static block by the device's own convolutions, on folded weights."""
    out = x = x.contiguous(memory_format=torch.channels_last)
    for conv, limit in zip(folded.convs[:-1], folded.limits, strict=False):
        out = activate(conv(out), limit)
    if folded.gate is not None:
        means = out.mean((2, 3), dtype=folded.gate.squeeze.bias.dtype)
        out *= folded.gate(means)[..., None, None]
    out = folded.convs[-1](out)
    return activate(out.add_(folded.identity(x)) if folded.adds else out, folded.limits[-1]), ()


def _fold_channels_last(block: DynamicBlock, dtype: torch.dtype) -> FoldedBlock:
    folded = fold_block(block, dtype)
    return replace(
        folded,
        convs=tuple(_channels_last(conv) for conv in folded.convs),
        shortcut=None if folded.shortcut is None else _channels_last(folded.shortcut),
    )


def _channels_last(conv: FoldedConv) -> FoldedConv:
    return replace(conv, weight=conv.weight.contiguous(memory_format=torch.channels_last))


@constant_when_compiled
def why_not_machine(device: torch.device, dtype: torch.dtype) -> str | None:
    """The reason why no kernel runs on a device or with features of a dtype, None if they do."""
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


# torch.compile: the executor is one operator that names the block by its number. Folding, tuning
# and launching happen inside of it, where nothing is traced.


def _numbered(number: int) -> tuple[TritonExecutor, DynamicBlock]:
    block = cast(DynamicBlock, numbered_block(number))
    executor: Executor[DynamicBlock] | None = block.executor
    if executor is not None and executor.name == 'auto':
        executor = executor.on(next(block.parameters()))
    return cast(TritonExecutor, executor), block


@constant_when_compiled
def _why_not_numbered(number: int, dtype: torch.dtype) -> str | None:
    executor, block = _numbered(number)
    packed = executor.pack(block, dtype)
    return packed if isinstance(packed, str) else None


def _run_numbered(number: int, x: Tensor, private: bool = False) -> tuple[Tensor, Masks]:
    out, mask = torch.ops.las_mm.triton_block(x, number)
    return out, (mask,)


@torch.library.custom_op('las_mm::triton_block', mutates_args=())
def triton_block(x: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The block with this number, run by its executor."""
    executor, block = _numbered(number)
    packed = cast('PackedBlock', executor.pack(block, x.dtype))
    out, (mask,) = executor._run(block, packed, x, private=False)
    return out, mask


@triton_block.register_fake
def _(x: Tensor, number: int) -> tuple[Tensor, Tensor]:
    block = _numbered(number)[1]
    masker, branch = cast(Masker, block.spatial_masker), block.branch
    height, width = conv_size(x.shape[-2:], branch.stride)
    out = x.new_empty(len(x), branch.steps[-1].op.out_channels, height, width)
    grain = masker.granularity
    grid = (1, 1) if grain is None else grid_size((height, width), grain)
    mask = x.new_empty(len(x), 1, *grid, dtype=masker.dtype)
    return out.contiguous(memory_format=torch.channels_last), mask
