"""All blocks of a stage in one C++ call, as long as nobody looks in between."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.modules.module import _has_any_global_hook

from las_mm.ops.folding import remember, slots_of
from las_mm.ops.geometry import conv_size

from . import decided_mask, fold_pooled_shortcut, pack_block, why_not_native
from .build import load_native

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock


class Chain:
    """Consecutive blocks, packed, and what they were packed from.

    At 224×224 a block takes less than a millisecond, and going through Python between two blocks,
    whose code the block's features have driven out of the caches, costs a tenth of it.

    Args:
        blocks: The blocks, for which :func:`why_not_chain` is None.
        x: An input of the first block.
    """

    def __init__(self, blocks: Sequence['DynamicBlock'], x: Tensor) -> None:
        native = cast(ModuleType, load_native()[0])
        kind = native.Float32Chain if x.dtype == torch.float32 else native.BFloat16Chain
        self._blocks, self._dtype = list(blocks), x.dtype
        self._native = kind([remember(pack_block, block, x.dtype) for block in blocks])
        self._pooled = remember(fold_pooled_shortcut, blocks[0], x.dtype)
        self._maskers = [block.masker if block.is_dynamic else None for block in blocks]
        hooks = [h for b in blocks for h in (b._forward_hooks, b._forward_pre_hooks)]
        self._sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._watch = native.Watch(_watched_slots(blocks), hooks)

    def fits(self, x: Tensor) -> bool:
        """Whether the blocks may run on x as they were packed."""
        on_cpu = x.dtype == self._dtype and x.device.type == 'cpu'
        free = not torch.is_grad_enabled() and not _has_any_global_hook()
        return on_cpu and free and self._watch.unchanged()

    def run(self, x: Tensor, private: bool = False) -> Tensor:
        """Run the blocks one after another.

        Args:
            x: (N, C, H, W), for which :meth:`fits`.
            private: Whether ``x`` may be written over, see
                :func:`~las_mm.ops.executors.cpu.execute_native`.

        Returns:
            The last output in channels-last memory. Each block has its mask for its trace.

        Raises:
            ValueError: If a block's granularity exceeds its feature map.
        """
        sizes = self._input_sizes((x.shape[-2], x.shape[-1]))
        x = x.contiguous(memory_format=torch.channels_last)
        identity = None
        if self._pooled is not None:
            identity = self._pooled.identity(x).contiguous(memory_format=torch.channels_last)
        decided = [decided_mask(masker, x) for masker in self._maskers]
        in_place = private and self._blocks[0].downsample is None
        out, masks = self._native.run(x, identity, decided, in_place)
        for block, masker, mask, size in zip(
            self._blocks, self._maskers, masks, sizes, strict=True
        ):
            if masker is not None:
                block.remember_decision(mask, size)
        return out

    def _input_sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(H, W) of each block's input, given the first one's; checked when first asked for."""
        if size not in self._sizes:
            sizes, first = [], size
            for block in self._blocks:
                if block.is_dynamic:
                    block.check_granularity(size)
                sizes.append(size)
                size = conv_size(size, block.stride_product)
            self._sizes[first] = sizes
            return sizes
        return self._sizes[size]


def why_not_chain(blocks: Sequence['DynamicBlock'], x: Tensor) -> str | None:
    """The reason why the blocks cannot be a :class:`Chain` for x, None if they can."""
    if x.device.type != 'cpu' or torch.is_grad_enabled():
        return 'training and other devices have no native executor'
    if _has_any_global_hook():
        return 'a global hook sees every block'
    for index, block in enumerate(blocks):
        modules = [block, *([block.masker] if block.is_dynamic else [])]
        if block.executor not in ('auto', 'cpu') or any(part.training for part in modules):
            return f'block {block.name} has another executor'
        if block._forward_hooks or block._forward_pre_hooks or 'forward' in block.__dict__:
            return f'somebody looks at block {block.name}'
        if reason := why_not_native(block, x):
            return reason
        if index > 0 and remember(fold_pooled_shortcut, block, x.dtype):
            return f'block {block.name} pools its shortcut'
    return None


def _watched_slots(blocks: Sequence['DynamicBlock']) -> list[tuple[dict, str]]:
    """All that the choice of the native executor and the packed weights depend on."""
    slots = []
    for block in blocks:
        tensors, modules = slots_of(block)
        slots += [*tensors, *modules, (block.__dict__, 'executor'), (block.__dict__, 'forward')]
        slots += [(module.__dict__, 'training') for module in block.modules()]
    return slots
