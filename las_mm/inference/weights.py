"""Weights held once: packed ones of a backbone's blocks, without those that they were made of."""

import ctypes
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from las_mm.executors.choosing import AutoExecutor
from las_mm.executors.cpu.block import CpuExecutor
from las_mm.layers import DynamicBlock, Executor
from las_mm.models import DynamicBackbone
from las_mm.ops.gradients import wants_gradients
from las_mm.ops.reasons import log_once

from .stand_ins import StandIn, run_own, stand_in


class Weightless(StandIn):
    """A module that has given up weights: it can be run in inference, and nothing else."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What it computes by itself."""
        if self.training or wants_gradients(self, x):
            refuse('to train it or to compute gradients')
        return run_own(self, x, *args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        refuse('to save the model')

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        refuse('to load a checkpoint')

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'Weightless':
        own = torch.empty(0)
        moved = fn(own)
        if (moved.dtype, moved.device) != (own.dtype, own.device):
            refuse('to move the model or to change its type')
        return super()._apply(fn, recurse)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        refuse('to copy or to pickle the model')


class WeightlessConv(Weightless):
    """A convolution whose weights are packed elsewhere, and nowhere else."""

    gave_up_weights = True  # see las_mm.ops.plain

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Nobody can run it by itself."""
        refuse('to run a block as PyTorch would')

    def __getattr__(self, name: str) -> Any:
        if name == 'weight':
            raise AttributeError(reason_of('to read one'))
        return super().__getattr__(name)


def reason_of(purpose: str) -> str:
    """What is said to somebody who needs the weights that are no longer there."""
    return (
        f'weights: the model has no original ones {purpose}, as it was optimized with '
        'keep_weights=False; build it anew and load its checkpoint'
    )


def refuse(purpose: str) -> NoReturn:
    """Raise the error for that.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError(reason_of(purpose))


def has_given_up(model: nn.Module) -> bool:
    """Whether some weights of the model are packed ones alone."""
    return any(isinstance(part, Weightless) for part in model.modules())


def check_givable(model: nn.Module, executor: Executor[DynamicBlock] | None) -> None:
    """Check that packed weights can replace the originals.

    Raises:
        ValueError: If the executor, or the device of the model, has no such weights.
    """
    if not isinstance(executor, CpuExecutor | AutoExecutor):
        name = 'dense' if executor is None else executor.name
        raise ValueError(f"keep_weights: got False with {name!r}; choose executor 'cpu' or 'auto'")
    backbones = [part for part in model.modules() if isinstance(part, DynamicBackbone)]
    devices = {parameter.device.type for part in backbones for parameter in part.parameters()}
    if devices != {'cpu'}:
        raise ValueError('keep_weights: got False for a model without a LAS backbone on the CPU')


@torch.no_grad()
def give_up_weights(backbone: DynamicBackbone) -> None:
    """Pack the backbone's blocks, one after another, and free what they were made of.

    Its parameters want no gradients any more. Blocks that cannot be packed keep their weights; if
    that is all of them, nothing has happened.
    """
    for block in [part for part in backbone.modules() if isinstance(part, DynamicBlock)]:
        convs = [step.op for step in block.branch.steps]
        dtype = backbone.precision or convs[0].weight.dtype
        example = torch.empty(0, dtype=dtype)
        executor = block.executor and block.executor.on(example)
        if not isinstance(executor, CpuExecutor):
            continue
        packed = executor.pack(block, dtype)
        if isinstance(packed, str):
            log_once(f'inference: some blocks keep their weights: {packed}')
            continue
        shortcut = () if block.branch.shortcut is None else block.branch.shortcut.modules()
        convs += [part for part in shortcut if isinstance(part, nn.Conv2d)]
        for conv in convs:
            stand_in(conv, WeightlessConv)
            del conv._parameters['weight']
        executor.memory.keep(block)
    if has_given_up(backbone):
        backbone.requires_grad_(False)
        stand_in(backbone, Weightless)
        _give_memory_back()


def _give_memory_back() -> None:
    """Let the C library return what was freed, which it keeps otherwise, between packed weights."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another library than glibc, or no such file
        return
