"""All blocks of a stage in one C++ call, as long as nobody looks in between."""

from collections.abc import Sequence
from types import ModuleType
from typing import cast

import torch
from torch import Tensor
from torch.nn.modules.module import _has_any_global_hook

from las_mm.executors.content import Content, hooks_of
from las_mm.layers import ChannelMasker, DynamicBlock, SqueezeMasker
from las_mm.ops import conv_size
from las_mm.ops.gradients import is_recorded, wants_gradients
from las_mm.ops.native.build import load_native

from .block import CpuExecutor, NativeBlock
from .channels import NativeChannels, decided_groups
from .packing import decided_mask, pooled_identity


class Chain:
    """Consecutive blocks, packed, and what they were packed from.

    At 224×224 a block takes less than a millisecond, and going through Python between two blocks,
    whose code the block's features have driven out of the caches, costs a tenth of it.

    Args:
        blocks: The blocks, for which :func:`why_not_chain` is None.
        x: An input of the first block.
    """

    def __init__(self, blocks: Sequence[DynamicBlock], x: Tensor) -> None:
        native = cast(ModuleType, load_native()[0])
        kind = native.Float32Chain if x.dtype == torch.float32 else native.BFloat16Chain
        prepared = [cast(NativeBlock | NativeChannels, _prepare(block, x)) for block in blocks]
        self._native = kind([part.packed for part in prepared])
        self._pooled, self._in_place = prepared[0].pooled, prepared[0].in_place
        self._watch_blocks(blocks, x.dtype)

    def _watch_blocks(self, blocks: Sequence[DynamicBlock], dtype: torch.dtype) -> None:
        """Remember what the blocks are made of, to see when that changes."""
        native = cast(ModuleType, load_native()[0])
        self._blocks, self._dtype = list(blocks), dtype
        self._maskers = [block.spatial_masker for block in blocks]
        self._channels = [_channel_masker(block) for block in blocks]
        self._sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}
        contents = [Content(block) for block in blocks]
        slots = [slot for content in contents for slot in content.slots]
        slots += [(block.__dict__, key) for block in blocks for key in ('executor', 'generation')]
        parts = [part for block in blocks for part in block.modules()]
        hooks = [hook for part in parts for hook in hooks_of(part)]
        self._watch = native.Watch(slots, hooks, parts)

    def fits(self, x: Tensor, blocks: Sequence[DynamicBlock]) -> bool:
        """Whether these blocks may run on x as they were packed."""
        on_cpu = x.dtype == self._dtype and x.device.type == 'cpu'
        same = on_cpu and self._blocks == blocks
        return same and not _is_observed(blocks, x) and self._watch.unchanged()

    def run(self, x: Tensor, private: bool = False) -> Tensor:
        """Run the blocks one after another.

        Args:
            x: (N, C, H, W), for which :meth:`fits`.
            private: Whether ``x`` may be written over.

        Returns:
            The last output in channels-last memory. Each block has its mask for its trace.

        Raises:
            ValueError: If a block's granularity exceeds its feature map.
        """
        sizes = self._input_sizes((x.shape[-2], x.shape[-1]))
        x = x.contiguous(memory_format=torch.channels_last)
        identity = pooled_identity(self._pooled, x)
        decided = [decided_mask(masker, x) for masker in self._maskers]
        groups = [decided_groups(masker, x) for masker in self._channels]
        in_place = private and self._in_place
        out, *masks = self._native.run(x, identity, decided, groups, in_place)
        images = x.shape[0]
        for block, *found, size in zip(self._blocks, *masks, sizes, strict=True):
            block.remember(tuple(mask for mask in found if mask is not None), size, images)
        return out

    def _input_sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(H, W) of each block's input, given the first one's; checked when first asked for."""
        if size not in self._sizes:
            sizes, first = [], size
            for block in self._blocks:
                block.check_granularity(size)
                sizes.append(size)
                size = conv_size(size, block.stride_product)
            self._sizes[first] = sizes
            return sizes
        return self._sizes[size]


def _is_observed(blocks: Sequence[DynamicBlock], x: Tensor) -> bool:
    """Whether gradients are wanted, the forward is recorded, or global hooks see every block."""
    wanted = torch.is_grad_enabled() and any(wants_gradients(block, x) for block in blocks)
    return wanted or is_recorded() or _has_any_global_hook()


def why_not_chain(blocks: Sequence[DynamicBlock], x: Tensor) -> str | None:
    """The reason why the blocks cannot be a :class:`Chain` for x, None if they can."""
    if reason := why_not_watchable(blocks, x):
        return reason
    return why_not_blocks(blocks, x)


def why_not_blocks(blocks: Sequence[DynamicBlock], x: Tensor) -> str | None:
    """The same for what the blocks are, whoever sees them run."""
    for index, block in enumerate(blocks):
        prepared = _prepare(block, x)
        if isinstance(prepared, str):
            return prepared
        if _decides_in_torch(block):
            return f'block {block.name} decides in PyTorch'
        ends = (blocks[0].branch.act_after is None, block.branch.act_after is None)
        if len(set(ends)) > 1:
            return f'block {block.name} leaves other signs than the blocks before it'
        if index > 0 and prepared.pooled is not None:
            return f'block {block.name} pools its shortcut'
    return None


def why_not_watchable(blocks: Sequence[DynamicBlock], x: Tensor) -> str | None:
    """The reason why somebody would miss the features between the blocks, None if nobody would."""
    if x.device.type != 'cpu':
        return 'other devices have no native executor'
    if _is_observed(blocks, x):
        return 'gradients are wanted, or somebody sees every block'
    for block in blocks:
        if any(part.training for part in (block, *block.maskers)):
            return f'block {block.name} is in training mode'
        if block._forward_hooks or block._forward_pre_hooks or 'forward' in block.__dict__:
            return f'somebody looks at block {block.name}'
    return None


def _channel_masker(block: DynamicBlock) -> ChannelMasker | None:
    return cast(ChannelMasker | None, block._modules.get('channel_masker'))


def _decides_in_torch(block: DynamicBlock) -> bool:
    """Whether masks depend on its input in a way that the extension does not know."""
    channels = _channel_masker(block)
    convolved = channels is not None and channels.linear is not None
    return convolved or isinstance(block.spatial_masker, SqueezeMasker)


def _prepare(block: DynamicBlock, x: Tensor) -> NativeBlock | NativeChannels | str:
    """The block as its executor has packed it, or the reason why it has not."""
    executor = block.executor and block.executor.on(x)
    if not isinstance(executor, CpuExecutor):
        return f'block {block.name} has another executor'
    return executor.pack(block, x.dtype)
