"""In which precision the blocks of an optimized backbone compute: fp32, or on CPUs bf16 or int8."""

from typing import cast

import torch
from torch import nn

from las_mm.executors.cpu.int8 import ranges_of
from las_mm.executors.cpu.packing import why_no_kernels
from las_mm.layers import DynamicBlock, Executor
from las_mm.models import DynamicBackbone
from las_mm.ops.reasons import log_once

PRECISIONS = ('fp32', 'bf16', 'int8', 'auto')
NATIVE = ('auto', 'cpu')  # executors that have kernels for it


def check_precision(name: str) -> str:
    """Return ``name`` if it is that of a precision.

    Raises:
        ValueError: If it is not.
    """
    if name not in PRECISIONS:
        raise ValueError(f'precision: got {name!r}; choose one of {", ".join(PRECISIONS)}')
    return name


def find_dtype(
    name: str, model: nn.Module, executor: Executor[DynamicBlock] | None
) -> torch.dtype | None:
    """The type in which blocks are to compute; None for that of the features which they get.

    Args:
        name: ``'fp32'``, ``'bf16'``, ``'int8'`` or ``'auto'``, which takes the fastest of the first
            two here.
        model: What is optimized.
        executor: Who will run its blocks.

    Raises:
        ValueError: If there is no such precision, or it is ``'bf16'`` or ``'int8'`` and cannot be
            had.
    """
    if check_precision(name) == 'fp32':
        return None
    if name == 'int8':
        reason = _why_not_native(model, executor) or _why_not_quantized(model)
        if reason:
            raise ValueError(f"precision: got 'int8', but {reason}")
        return torch.uint8
    reason = _why_not_native(model, executor) or why_no_kernels(torch.bfloat16)
    if reason is None:
        return torch.bfloat16
    if name == 'bf16':
        raise ValueError(f"precision: got 'bf16', but {reason}; choose 'fp32' or 'auto'")
    return None


def _why_not_native(model: nn.Module, executor: Executor[DynamicBlock] | None) -> str | None:
    if executor is None or executor.name not in NATIVE:
        name = 'dense' if executor is None else executor.name
        return f'the executor is {name!r}, and only {NATIVE[0]!r} and {NATIVE[1]!r} compute in it'
    backbones = [part for part in model.modules() if isinstance(part, DynamicBackbone)]
    if not any(backbone.sequences for backbone in backbones):
        return f'{type(model).__name__} has no dynamic backbone whose stages run one after another'
    kinds = {(p.dtype, p.device.type) for backbone in backbones for p in backbone.parameters()}
    if kinds != {(torch.float32, 'cpu')}:
        return 'the parameters of the backbone are not in float32 on a CPU'
    return None


def _why_not_quantized(model: nn.Module) -> str | None:
    if reason := why_no_kernels(torch.float32):
        return reason
    blocks = [part for part in model.modules() if isinstance(part, DynamicBlock)]
    if any(ranges_of(block) is not None for block in blocks):
        return None
    return (
        'the model is not quantized; call las_mm.quantize(model, loader), or run '
        'tools/quantize.py and test the checkpoint that it writes'
    )


def stages_that_lead_on(backbone: DynamicBackbone) -> list[bool]:
    """Of each of the backbone's stages, whether nothing computes with its output but the next one.

    What a backbone makes of the output of its last stage is not known, unless nothing follows.
    """
    children = [part for part in backbone.children() if any(True for _ in part.parameters())]
    stages = cast(list[nn.Module], backbone.sequences)
    found = []
    for stage in stages:
        rest = children[children.index(stage) + 1 :] if stage in children else [None]
        found.append(not rest or rest[0] in stages)
    return found


def say_what_bf16_brings(dtype: torch.dtype) -> None:
    """Log, once, that blocks which compute in float32 could be faster on this CPU."""
    if dtype == torch.float32 and why_no_kernels(torch.bfloat16) is None:
        log_once(
            "precision: blocks compute in fp32; this CPU has bfloat16, and precision='bf16' or "
            "'auto' would take about two thirds of the time, with errors of up to 4 % of the "
            'largest value of a deep network'
        )
