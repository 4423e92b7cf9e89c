"""Post-training quantization: the ranges of activations, from a handful of images."""

from collections.abc import Iterable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from las_mm.executors.cpu.int8 import RANGES, why_not_quantizable
from las_mm.executors.folding import activate, fold_block
from las_mm.layers import DynamicBlock
from las_mm.models import DynamicBackbone
from las_mm.ops.reasons import log_once

from .optimizing import restore_after_inference

Model = TypeVar('Model', bound=nn.Module)


class _Ranges:
    """The largest activations of a block, image by image, averaged over the images."""

    def __init__(self, block: DynamicBlock) -> None:
        self.folded = fold_block(block, torch.float32)
        self.sums: Tensor | float = 0.0
        self.images = 0

    def __call__(self, block: nn.Module, args: tuple, out: Tensor) -> None:
        x = args[0]
        self.images += len(x)
        seen, hidden, folded = [x], x, self.folded
        for conv, limit in zip(folded.convs[:-1], folded.limits, strict=False):
            hidden = activate(conv(hidden), limit)
            seen.append(hidden)
        seen.append(folded.identity(x))
        seen.append(out)
        self.sums = self.sums + torch.stack([_largest(part) for part in seen]).sum(1)

    def mean(self) -> Tensor:
        """(K,), as :func:`~las_mm.executors.cpu.int8.ranges_of` has it."""
        return (cast(Tensor, self.sums) / self.images).clamp(min=1e-12).float()


def _largest(x: Tensor) -> Tensor:
    return x.flatten(1).abs().amax(1).double()


@torch.no_grad()
def quantize(model: Model, loader: Iterable[Any]) -> Model:
    """Find the ranges of activations that int8 inference needs, by running the model.

    Afterwards ``optimize_for_inference(model, precision='int8')`` runs the blocks of its dynamic
    backbones, or of static ones made by :func:`~las_mm.inference.make_static`, in 8 bits on a CPU.
    The range of a tensor is the mean over the images of its largest value. Ranges are buffers
    (``….activation_ranges``): they are saved, loaded and copied with the model, which computes what
    it did before until it is optimized. Stages with a block that cannot be quantized stay in
    float32. Changed weights are quantized anew, within the ranges that were found before.

    Args:
        model: Any module with a dynamic backbone on the CPU; changed in place.
        loader: Of batches: images as a tensor (N, 3, H, W), or what the model's ``test_step``
            takes.

    Returns:
        The model itself, in the mode it was in, not optimized.

    Raises:
        ValueError: If nothing of the model can be quantized, or the loader has no images.
    """
    restore_after_inference(model)
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        stages = _quantizable_stages(model)
        found = _watch(model, [block for stage in stages for block in stage], loader)
    finally:
        for part, mode in modes:
            part.training = mode
    unquantize(model)
    for stage in stages:
        _share(stage, [found[block] for block in stage])
    for block, ranges in found.items():
        block.register_buffer(RANGES, ranges)
    return model


def _watch(
    model: nn.Module, blocks: list[DynamicBlock], loader: Iterable[Any]
) -> dict[DynamicBlock, Tensor]:
    """The ranges of each block, over the images of the loader."""
    watchers = {block: _Ranges(block) for block in blocks}
    handles = [block.register_forward_hook(watcher) for block, watcher in watchers.items()]
    try:
        for batch in loader:
            model(batch) if isinstance(batch, Tensor) else cast(Any, model).test_step(batch)
    finally:
        for handle in handles:
            handle.remove()
    if not all(watcher.images for watcher in watchers.values()):
        raise ValueError('loader: got no images that reach every stage; give at least one')
    return {block: watcher.mean() for block, watcher in watchers.items()}


def unquantize(model: Model) -> Model:
    """Take away what :func:`quantize` has found.

    Returns:
        The model itself, not optimized.
    """
    for part in restore_after_inference(model).modules():
        part._buffers.pop(RANGES, None)
    return model


def _quantizable_stages(model: nn.Module) -> list[list[DynamicBlock]]:
    """The stages that can compute in int8, of a model in eval mode.

    Raises:
        ValueError: If there are none.
    """
    backbones = [part for part in model.modules() if isinstance(part, DynamicBackbone)]
    sequences = [stage for backbone in backbones for stage in backbone.sequences]
    found, last = [], 'it has no dynamic backbone whose stages run one after another'
    for stage in [list(sequence.children()) for sequence in sequences]:
        if reason := why_not_quantizable(stage):
            last = reason
            log_once(f'quantize: some stages stay in fp32: {reason}')
        else:
            found.append(cast(list[DynamicBlock], stage))
    if not found:
        raise ValueError(f'model: nothing of a {type(model).__name__} can be quantized: {last}')
    return found


def _share(stage: list[DynamicBlock], ranges: list[Tensor]) -> None:
    """Give one range to all features that pass from a sum to the next unchanged."""
    passing = [found[-1] for found in ranges]
    if stage[0].branch.shortcut is None:
        passing.append(ranges[0][0])
    largest = torch.stack(passing).max()
    for block, found in zip(stage, ranges, strict=True):
        found[-1] = largest
        if block.branch.shortcut is None:
            found[0] = largest
