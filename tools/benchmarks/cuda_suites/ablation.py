"""Table 1: what each fusion gains, on a block of the first stage at S = 4 and r = 0.6."""

from collections.abc import Iterator
from functools import partial

import torch
from benchmarking.masks import make_mask
from torch import nn

from las_mm.executors.triton.block import run_block
from las_mm.executors.triton.options import Options
from las_mm.executors.triton.packing import pack_block

from .setup import (
    DTYPES,
    FLOAT32,
    Machine,
    Task,
    graphed,
    make_block,
    make_features,
    measure,
    ratio,
    set_precision,
    static_of,
)

RATE, GRANULARITY = 0.6, 4
# The rows of Table 1 and the paper's microseconds, on a V100 in float32.
ROWS = (
    ('none', dict(masker_conv1=False, gather_conv2=False, scatter_add=False), 163.2),
    ('+ masker-conv1', dict(masker_conv1=True, gather_conv2=False, scatter_add=False), 90.1),
    ('+ gather-conv2', dict(masker_conv1=True, gather_conv2=True, scatter_add=False), 86.7),
    ('+ scatter-add', dict(masker_conv1=True, gather_conv2=True, scatter_add=True), 71.4),
)
GOAL = 2.29  # total gain in the paper
CASES = (
    ('fp32', 1, (56, 56)), ('fp32', 64, (56, 56)), ('fp16', 1, (56, 56)), ('fp16', 64, (56, 56)),
    ('fp32', 1, (200, 304)), ('fp16', 8, (200, 304)),
)  # fmt: skip
REPEATS = 20  # of the block in one graph: its launch shall not count
SHARE = 1e-3  # of the branch in the block's output: repeated in place, features stay in range


def tasks(machine: Machine, results: dict) -> Iterator[Task]:
    """Microseconds of the block with one fusion more each, and of the static block."""
    for precision, batch, size in CASES[:1] if machine.dry else CASES:
        case = f'{precision} batch {batch} {size[0]}x{size[1]} S {GRANULARITY} r {RATE}'
        yield Task(case, 10, partial(_run, machine, precision, batch, size))


@torch.no_grad()
def _run(machine: Machine, precision: str, batch: int, size: tuple[int, int]) -> list[dict]:
    set_precision(precision)
    block = make_block(machine, 256, 64, GRANULARITY, precision)
    norm = block.branch.steps[-1].norm
    nn.init.constant_(norm.weight, SHARE)
    x = make_features(machine, block, batch, size)
    packed = pack_block(block, DTYPES[precision])
    grid = [-(-edge // GRANULARITY) for edge in x.shape[-2:]]
    decided = make_mask(grid, RATE, seed=0, batch=len(x)).to(x)
    static = static_of(block)
    runs = {'static': graphed(machine, lambda: static(x), REPEATS)}
    for name, switches, _ in ROWS:
        options = Options(float32=FLOAT32[precision], **switches)
        step = partial(run_block, packed, x, options, in_place=True, decided=decided)
        runs[name] = graphed(machine, step, REPEATS)
    times = measure(machine, runs)
    return [{
        'us': {key: None if ms is None else 1000 * ms / REPEATS for key, ms in times.items()},
        'paper_us_v100': {name: value for name, _, value in ROWS},
        'gain': ratio(times['none'], times['+ scatter-add']), 'goal': GOAL,
    }]  # fmt: skip
