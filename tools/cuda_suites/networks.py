"""The whole backbone, dynamic against the fastest static one, all as CUDA graphs."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor

from las_mm.inference import make_static, optimize_for_inference
from las_mm.models.backbone import DynamicBackbone
from las_mm.ops.executors.triton.graphed import GraphedBackbone
from las_mm.ops.executors.triton.options import Options

from .setup import (
    DTYPES,
    FLOAT32,
    Machine,
    decide_masks,
    graphed,
    make_backbone,
    measure,
    ratio,
    set_precision,
)

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
COMPILE_SECONDS = 60.0  # that torch.compile may take; left out where less is left


def run(machine: Machine) -> list[dict]:
    """Measure every case that there is time for; the others say that they were left out."""
    rows = []
    for case in CASES[:2] if machine.dry else CASES:
        if machine.has(30):
            rows += _run_case(machine, *case)
        else:
            rows.append({'case': _name(*case[:3]), 'left_out': 'no time was left'})
    return rows


@torch.no_grad()
def _run_case(machine: Machine, precision: str, batch: int, size, targets) -> list[dict]:
    set_precision(precision)
    if machine.dry:
        batch, size = 1, (64, 64)
    backbone = make_backbone(machine, precision)
    images = torch.rand(batch, 3, *size, device=machine.device).to(DTYPES[precision])
    images = images.contiguous(memory_format=torch.channels_last)
    network = optimize_for_inference(make_static(backbone), 'triton')
    static = {'static, cuDNN graph': graphed(machine, lambda: network(images))}
    rows = []
    for target in targets:
        rates = decide_masks(backbone, images, target)
        dynamic = _dynamic_variants(machine, backbone, images, FLOAT32[precision])
        plans = {name: [stage.mode for stage in run.plan.stages] for name, run in dynamic.items()}
        runs = {name: (lambda run=run: run(images)) for name, run in dynamic.items()}
        times = measure(machine, {**static, **runs})
        best_static = _least(times[name] for name in static)
        best_dynamic = _least(times[name] for name in runs)
        bar = BARS.get((batch, target)) if size == (800, 1216) and precision != 'tf32' else None
        rows.append(
            {
                'case': _name(precision, batch, size), 'target': target, **rates, 'ms': times,
                'plans': plans, 'ratio': ratio(best_dynamic, best_static), 'bar': bar,
            }
        )  # fmt: skip
    return rows


def _dynamic_variants(
    machine: Machine, backbone: DynamicBackbone, images: Tensor, float32: str
) -> dict[str, GraphedBackbone]:
    options = {
        'dynamic': Options(float32=float32),
        'dynamic, PDL': Options(float32=float32, pdl=True),
        'dynamic, not incremental': Options(float32=float32, incremental_masker=False),
    }
    chosen = list(options.items())[:1] if machine.dry else options.items()
    return {
        name: GraphedBackbone(copy.deepcopy(backbone), images, option) for name, option in chosen
    }


def _least(times: Iterable[float | None]) -> float | None:
    return min((time for time in times if time is not None), default=None)


def run_compiled(machine: Machine) -> list[dict]:
    """The static backbone by torch.compile, case by case while there is time.

    Kept for the end: nobody knows how long max-autotune takes.
    """
    rows = []
    for precision, batch, size, _ in CASES:
        row = {'case': _name(precision, batch, size)}
        if machine.dry or not machine.has(COMPILE_SECONDS):
            rows.append(row | {'left_out': 'dry run' if machine.dry else 'no time was left'})
            continue
        set_precision(precision)
        static = make_static(make_backbone(machine, precision))
        images = torch.rand(batch, 3, *size, device=machine.device).to(DTYPES[precision])
        images = images.contiguous(memory_format=torch.channels_last)
        rows.append(row | _time_compiled(machine, static, images))
    return rows


@torch.no_grad()
def _time_compiled(machine: Machine, static: DynamicBackbone, images: Tensor) -> dict:
    """max-autotune with frozen weights, but without its own CUDA graphs: ours serve all alike."""
    with torch._inductor.config.patch(freezing=True):
        run = torch.compile(static, mode='max-autotune-no-cudagraphs')
        try:
            replay = graphed(machine, lambda: run(images))
        except Exception as error:  # whatever a compiler may raise: the other baseline remains
            return {'failed': str(error).splitlines()[0]}
    return {'ms': measure(machine, {'static, torch.compile': replay})['static, torch.compile']}


def add_compiled(rows: list[dict], compiled: list[dict]) -> None:
    """Take torch.compile's times into the ratios of :func:`run`, where it is the faster one."""
    times = {row['case']: row['ms'] for row in compiled if 'ms' in row}
    for row in rows:
        if row['case'] in times and 'ms' in row:
            row['ms']['static, torch.compile'] = times[row['case']]
            static = _least(ms for name, ms in row['ms'].items() if name.startswith('static'))
            dynamic = _least(ms for name, ms in row['ms'].items() if name.startswith('dynamic'))
            row['ratio'] = ratio(dynamic, static)


def _name(precision: str, batch: int, size: tuple[int, int]) -> str:
    return f'{precision} batch {batch} {size[0]}x{size[1]}'
