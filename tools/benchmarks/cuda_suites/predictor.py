"""Calibrate the latency predictor for this GPU and hold its predictions against measurement."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from benchmarking.masks import make_mask
from torch import nn

from las_mm.executors.triton.block import run_block
from las_mm.executors.triton.options import Options
from las_mm.executors.triton.packing import pack_block
from las_mm.latency.description import describe_block
from las_mm.ops import conv_size
from latency_predictor import LatencyModel

from .ablation import SHARE
from .kernels import STAGES
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

TOOLS = Path(__file__).resolve().parents[2]
RATES = (0.3, 0.5, 0.7, 1.0)
CASES = (('fp32', 1, 224), ('fp16', 1, 224), ('fp32', 8, 800), ('fp16', 8, 800))
REPEATS = 10
CALIBRATION_SECONDS = 20


def tasks(machine: Machine, results: dict) -> Iterator[Task]:
    """Write a device file, compare every block at several activation rates, and sum up."""
    if machine.dry:
        return
    path = machine.folder / 'measured.yaml'
    yield Task('calibration', 2 * CALIBRATION_SECONDS, partial(calibrate, path))
    if not path.is_file():
        return
    rows: list[dict] = []
    for precision, batch, image in CASES:
        run = partial(_compare, machine, path, precision, batch, image, rows)
        yield Task(f'{precision} batch {batch} {image}', 5, run)
    if rows:
        yield Task('all blocks', 0, lambda: [{'mape': mape(rows)}])


def calibrate(path: Path) -> list[dict]:
    """Write the device file of this GPU.

    Raises:
        RuntimeError: If the calibration fails.
    """
    path.unlink(missing_ok=True)  # one of another machine, perhaps
    command = [sys.executable, str(TOOLS / 'calibrate.py'), '--device', 'cuda', '--name', path.stem]
    command += ['--seconds', str(CALIBRATION_SECONDS), '--output', str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f'calibrate.py: {done.stderr.strip()[-500:]}')
    return [{'device': str(path)}]


@torch.no_grad()
def _compare(
    machine: Machine, device: Path, precision: str, batch: int, image: int, rows: list[dict]
) -> Iterator[dict]:
    """Predicted and measured times of each block; also added to ``rows``."""
    set_precision(precision)
    model = LatencyModel(str(device), precision=precision, batch_size=batch)
    for number, (channels, width, granularity, stride) in enumerate(STAGES):
        block = make_block(machine, channels, width, granularity, precision)
        block.name = f'layer{number + 1}.1'
        norm = block.branch.steps[-1].norm
        nn.init.constant_(norm.weight, SHARE)
        size = (image // stride, image // stride)
        x = make_features(machine, block, batch, size)
        packed, static = pack_block(block, DTYPES[precision]), static_of(block)
        for rate in RATES:
            grid = conv_size(size, granularity)
            decided = make_mask(grid, rate, seed=0, batch=len(x)).to(x)
            times = _measure(machine, packed, static, x, decided, FLOAT32[precision])
            found = model.block(describe_block(block, number, size), rate)
            rows.append(
                {
                    'block': block.name, 'activation_rate': rate,
                    'static': [found.static_us, times['static']],
                    'dynamic': [found.dynamic_us, times['dynamic']],
                    'ratio': [found.ratio, ratio(times['dynamic'], times['static'])],
                }
            )  # fmt: skip
            yield rows[-1]


def _measure(machine, packed, static, x, decided, float32: str) -> dict[str, float]:
    """Microseconds of the static and the dynamic block."""
    options = Options(float32=float32)
    steps = {
        'static': lambda: static(x),
        'dynamic': lambda: run_block(packed, x, options, in_place=True, decided=decided),
    }
    runs = {name: graphed(machine, step, REPEATS) for name, step in steps.items()}
    return {name: 1000 * ms / REPEATS for name, ms in measure(machine, runs).items()}


def mape(rows: list[dict]) -> dict[str, float]:
    """Mean absolute percentage errors of the predictions, which stand before what was measured."""
    found = {}
    for key in ('static', 'dynamic', 'ratio'):
        errors = [abs(row[key][0] - row[key][1]) / row[key][1] for row in rows]
        found[key] = 100 * sum(errors) / len(errors)
    return found
