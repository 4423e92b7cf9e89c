"""Making a plan: whether to fuse masker and first convolution (Sec. 3.4) or to be incremental."""

from functools import partial
from typing import cast

import torch
from torch import Tensor

from las_mm.executors.triton import TritonExecutor
from las_mm.executors.triton.packing import PackedBlock
from las_mm.executors.triton.plan import FUSED, INCREMENTAL, SEPARATE, Plan, Stage
from las_mm.executors.triton.timing import time_graph
from las_mm.layers import DynamicBlock
from las_mm.models import DynamicBackbone


@torch.no_grad()
def plan_backbone(
    backbone: DynamicBackbone,
    example: Tensor,
    executor: TritonExecutor,
    r_th: float | None = None,
) -> Plan:
    """Plan the backbone's forward on images like ``example``.

    What the executor's options leave open is decided for each stage: with ``r_th`` by the average
    activation rate on the example, as in Sec. 3.4 (fused where r > r_th, incremental elsewhere),
    without it on a GPU by timing the stage, and otherwise fused.

    Args:
        backbone: A dynamic backbone in eval mode.
        example: (N, 3, H, W) images of the size, type, and if possible the content to come.
        executor: Who will run it.
        r_th: Threshold of the activation rate, None to time.

    Raises:
        ValueError: If r_th is not in [0, 1].
    """
    if r_th is not None and not 0 <= r_th <= 1:
        raise ValueError(f'r_th: got {r_th}; give an activation rate from 0 to 1')
    stages = [Stage(tuple(stage)) for stage in backbone.dynamic_stages.values()]
    if not all(isinstance(block, DynamicBlock) for stage in stages for block in stage.blocks):
        return Plan((), executor.options)  # layers of a transformer, which run in one way alone
    inputs = _stage_inputs(backbone, example)
    planned = [s for s in stages if _can_run(executor, s, inputs[id(s.blocks[0])])]
    for stage in planned:
        stage.mode = _choose_mode(executor, stage, inputs[id(stage.blocks[0])], r_th)
    return Plan(tuple(planned), executor.options)


def _choose_mode(executor: TritonExecutor, stage: Stage, x: Tensor, r_th: float | None) -> str:
    modes = _allowed_modes(executor, stage, x.dtype)
    if r_th is not None:
        traces = [block.trace for block in stage.blocks if block.trace is not None]
        rate = torch.stack([trace.activation_rate.mean() for trace in traces]).mean()
        modes = [mode for mode in modes if (mode == FUSED) == bool(rate > r_th)] or modes
        return modes[-1]
    if len(modes) == 1 or not x.is_cuda:
        return modes[0]
    stage.times = {mode: _time(executor, stage, mode, x) for mode in modes}
    return min(stage.times, key=stage.times.__getitem__)


def _allowed_modes(executor: TritonExecutor, stage: Stage, dtype: torch.dtype) -> list[str]:
    """What the options leave open, and the stage can do."""
    options, is_chain = executor.options, partial(_is_chain, executor, stage, dtype)
    if options.incremental_masker and is_chain():
        return [INCREMENTAL]
    if options.masker_conv1 is not None:
        modes = [FUSED if options.masker_conv1 else SEPARATE]
    else:
        modes = [FUSED, SEPARATE]
    chain = options.incremental_masker is None and options.scatter_add and is_chain()
    return [*modes, INCREMENTAL] if chain and not options.masker_conv1 else modes


def _is_chain(executor: TritonExecutor, stage: Stage, dtype: torch.dtype) -> bool:
    """Whether all blocks but the first have the same patches and change nothing else."""
    packed = [cast(PackedBlock, executor.pack(block, dtype)) for block in stage.blocks]
    own = all(b.spatial_masker and b.spatial_masker.granularity for b in stage.blocks)
    return (
        own
        and len(packed) > 1
        and all(
            block.shortcut is None and block.pool is None and block.window == packed[0].granularity
            for block in packed[1:]
        )
    )


def _can_run(executor: TritonExecutor, stage: Stage, x: Tensor) -> bool:
    return all(block.is_dynamic and not executor.why_not(block, x) for block in stage.blocks)


def _stage_inputs(backbone: DynamicBackbone, example: Tensor) -> dict[int, Tensor]:
    """The input of each stage's first block, by the block's id; leaves traces behind."""
    inputs: dict[int, Tensor] = {}

    def remember_input(block: DynamicBlock, args: tuple[Tensor | list[Tensor], ...]) -> None:
        x = args[0]
        if not isinstance(x, Tensor):  # a dense layer reads the features of all layers before it
            x = torch.cat(list(x), 1)
        inputs[id(block)] = x.contiguous(memory_format=torch.channels_last)

    firsts = [stage[0] for stage in backbone.dynamic_stages.values()]
    handles = [block.register_forward_pre_hook(remember_input) for block in firsts]
    try:
        backbone(example)
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def _time(executor: TritonExecutor, stage: Stage, mode: str, x: Tensor) -> float:
    """Milliseconds of the stage in a mode, as a CUDA graph."""
    planned = TritonExecutor(executor.options, Plan((Stage(stage.blocks, mode),), executor.options))

    def run() -> None:
        out = x
        for number, block in enumerate(stage.blocks):
            step = planned.prepare(block, out)
            if isinstance(step, str):
                raise RuntimeError(f'block {block.name} cannot run any more: {step}')
            out, _ = step(out, number > 0)

    return time_graph(run, x.device)
