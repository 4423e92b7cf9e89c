"""torch.compile as another static baseline; kept for late: nobody knows how long it takes."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from las_mm.inference import make_static
from las_mm.models.backbone import DynamicBackbone

from .networks import CASES, best_ratio, name_case
from .setup import DTYPES, Machine, Task, graphed, make_backbone, measure, set_precision

SECONDS = 45.0  # that one network takes at least
NAME = 'static, torch.compile'


def tasks(machine: Machine, results: dict) -> Iterator[Task]:
    """The static backbone of each case of the suite networks."""
    for precision, batch, size, _ in [] if machine.dry else CASES:
        run = partial(_run, machine, precision, batch, size)
        yield Task(name_case(precision, batch, size), SECONDS, run)


@torch.no_grad()
def _run(machine: Machine, precision: str, batch: int, size: tuple[int, int]) -> list[dict]:
    set_precision(precision)
    static = make_static(make_backbone(machine, precision))
    images = torch.rand(batch, 3, *size, device=machine.device).to(DTYPES[precision])
    return [{'ms': _time(machine, static, images.contiguous(memory_format=torch.channels_last))}]


def _time(machine: Machine, static: DynamicBackbone, images: Tensor) -> float | None:
    """max-autotune with frozen weights, but without its own CUDA graphs: ours serve all alike."""
    with torch._inductor.config.patch(freezing=True):
        run = torch.compile(static, mode='max-autotune-no-cudagraphs')
        return measure(machine, {NAME: graphed(machine, lambda: run(images))})[NAME]


def add_to(results: dict) -> None:
    """Take these times into the ratios of the suite networks, where that has been run."""
    times = {row['case']: row['ms'] for row in results.get('compiled', []) if 'ms' in row}
    for row in results.get('networks', []):
        if row['case'] in times and 'ms' in row:
            row['ms'][NAME] = times[row['case']]
            row['ratio'] = best_ratio(row['ms'])
