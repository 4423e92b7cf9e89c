"""The whole backbone, dynamic against the fastest static one, all as CUDA graphs."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from benchmarking.masks import decide_masks
from torch import Tensor, nn

from las_mm.executors.triton.options import Options
from las_mm.executors.triton.plan import INCREMENTAL, Plan, Stage
from las_mm.inference import make_static, optimize_for_inference
from las_mm.inference.graphed import GraphedBackbone
from las_mm.models.backbone import DynamicBackbone

from .setup import (
    DTYPES,
    FLOAT32,
    Machine,
    Task,
    graphed,
    make_backbone,
    measure,
    ratio,
    set_precision,
)
from .static import fuse_static

# (precision, batch, (H, W), ratios of MACs), in the order of importance: time may run out.
CASES = (
    ('fp16', 1, (800, 1216), (0.5, 0.4)),
    ('fp16', 8, (800, 1216), (0.5, 0.4)),
    ('fp32', 1, (800, 1216), (0.5, 0.4)),
    ('fp32', 8, (800, 1216), (0.5, 0.4)),
    ('fp16', 1, (224, 224), (0.5,)),
    ('fp16', 64, (224, 224), (0.5,)),
    ('tf32', 1, (800, 1216), (0.5,)),
    ('fp32', 1, (224, 224), (0.5,)),
    ('fp32', 64, (224, 224), (0.5,)),
    ('bf16', 1, (800, 1216), (0.5,)),
)
# Ratio of latencies to reach, by batch size and ratio of MACs, at 800×1216 in fp16 and fp32.
BARS = {(1, 0.5): 0.70, (8, 0.5): 0.60, (1, 0.4): 0.60, (8, 0.4): 0.50}


def tasks(machine: Machine, results: dict) -> Iterator[Task]:
    """Every case, at each of its ratios of MACs."""
    for precision, batch, size, targets in CASES[:1] if machine.dry else CASES:
        run = partial(_run, machine, precision, batch, size, targets)
        yield Task(name_case(precision, batch, size), 20, run)


def name_case(precision: str, batch: int, size: tuple[int, int]) -> str:
    """What rows of a case are called."""
    return f'{precision} batch {batch} {size[0]}x{size[1]}'


@torch.no_grad()
def _run(
    machine: Machine, precision: str, batch: int, size: tuple[int, int], targets: tuple[float, ...]
) -> Iterator[dict]:
    set_precision(precision)
    bars = BARS if size == (800, 1216) and precision in ('fp16', 'fp32') else {}
    shape = (1, 64, 64) if machine.dry else (batch, *size)
    backbone = make_backbone(machine, precision)
    images = torch.rand(shape[0], 3, *shape[1:], device=machine.device).to(DTYPES[precision])
    images = images.contiguous(memory_format=torch.channels_last)
    static, notes = _static_variants(machine, backbone, images)
    for target in targets:
        _run_densely(backbone, images)
        rates = decide_masks(backbone, target)
        dynamic = _dynamic_variants(machine, backbone, images, FLOAT32[precision])
        times = measure(machine, static | {n: partial(run, images) for n, run in dynamic.items()})
        yield {
            'target': target, **rates, 'ms': times, **notes,
            'plans': {n: [stage.mode for stage in run.plan.stages] for n, run in dynamic.items()},
            'stage_ms': [stage.times for stage in dynamic['dynamic'].plan.stages],
            'ratio': best_ratio(times), 'bar': bars.get((batch, target)),
        }  # fmt: skip


def _run_densely(backbone: DynamicBackbone, images: Tensor) -> None:
    """With the masks of its own maskers."""
    backbone.executor = 'dense'
    for block in backbone.blocks:
        block.masker.decided = None
    backbone(images)


def _static_variants(
    machine: Machine, backbone: DynamicBackbone, images: Tensor
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """Replays of the static network by name, and why one is missing."""
    network = optimize_for_inference(make_static(backbone), 'triton')
    runs = {'static, cuDNN': _fed(machine, network, images)}
    if machine.dry:
        return runs, {}
    fused = copy.deepcopy(network)
    fuse_static(fused)
    try:
        return runs | {'static, cuDNN fused': _fed(machine, fused, images)}, {}
    except RuntimeError as error:
        return runs, {'not measured': f'static, cuDNN fused: {str(error).splitlines()[0]}'}


def _fed(machine: Machine, network: nn.Module, images: Tensor) -> Callable[[], object]:
    """A replay of the network with its input copied before, as GraphedBackbone does it."""
    own = images.clone()
    replay = graphed(machine, lambda: network(own))

    def run() -> None:
        own.copy_(images)
        replay()

    return run


def _dynamic_variants(
    machine: Machine, backbone: DynamicBackbone, images: Tensor, float32: str
) -> dict[str, GraphedBackbone]:
    """As planned; with the best plan that is not incremental; and as planned, with PDL."""
    options = Options(float32=float32)
    planned = GraphedBackbone(copy.deepcopy(backbone), images, options)
    found = {'dynamic': planned}
    if machine.dry:
        return found
    modes = [stage.mode for stage in planned.plan.stages]
    plain = [min((mode for mode in stage.times if mode != INCREMENTAL), key=stage.times.get)
             for stage in planned.plan.stages]  # fmt: skip
    if plain != modes:
        found['dynamic, not incremental'] = _by_modes(backbone, images, plain, options)
    if len(images) == 1:  # where launches count
        found['dynamic, PDL'] = _by_modes(backbone, images, modes, replace(options, pdl=True))
    return found


def _by_modes(
    backbone: DynamicBackbone, images: Tensor, modes: Sequence[str], options: Options
) -> GraphedBackbone:
    backbone = copy.deepcopy(backbone)
    stages = zip(backbone.dynamic_stages.values(), modes, strict=True)
    plan = Plan(tuple(Stage(tuple(blocks), mode) for blocks, mode in stages), options)
    return GraphedBackbone(backbone, images, plan=plan)


def best_ratio(times: dict[str, float | None]) -> float | None:
    """The fastest dynamic variant's time to the fastest static one's."""
    static, dynamic = (
        min((ms for name, ms in times.items() if name.startswith(kind) and ms), default=None)
        for kind in ('static', 'dynamic')
    )
    return ratio(dynamic, static)
