"""Calibrate the latency predictor for this GPU and hold its predictions against measurement."""

import subprocess
import sys
from pathlib import Path

import torch

from las_mm.latency import describe_block
from las_mm.ops.executors.triton.block import run_block
from las_mm.ops.executors.triton.options import Options
from las_mm.ops.executors.triton.packing import pack_block
from latency_predictor import LatencyModel

from .kernels import STAGES
from .setup import (
    DTYPES,
    FLOAT32,
    Machine,
    graphed,
    make_block,
    make_features,
    measure,
    ratio,
    set_precision,
    smooth_mask,
    static_of,
)

TOOLS = Path(__file__).resolve().parent.parent
RATES = (0.3, 0.5, 0.7, 1.0)
CASES = (('fp32', 1, 224), ('fp16', 1, 224), ('fp32', 8, 800), ('fp16', 8, 800))
REPEATS = 10
CALIBRATION_SECONDS = 20


def run(machine: Machine, folder: Path, name: str = 'measured') -> dict:
    """Write ``name``.yaml, a device file, and compare every block at several activation rates.

    Raises:
        RuntimeError: If the calibration fails.
    """
    if machine.dry:
        return {'rows': [], 'mape': None, 'device': None}
    path = folder / f'{name}.yaml'
    calibrate = [sys.executable, str(TOOLS / 'calibrate.py'), '--device', 'cuda', '--name', name]
    calibrate += ['--seconds', str(CALIBRATION_SECONDS), '--output', str(path)]
    done = subprocess.run(calibrate, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f'calibrate.py: {done.stderr.strip()[-500:]}')
    rows = [row for case in CASES for row in _compare(machine, path, *case)]
    mape = {key: _mape(rows, key) for key in ('static', 'dynamic', 'ratio')}
    return {'device': str(path), 'rows': rows, 'mape': mape}


@torch.no_grad()
def _compare(machine: Machine, device: Path, precision: str, batch: int, image: int) -> list[dict]:
    set_precision(precision)
    model = LatencyModel(str(device), precision=precision, batch_size=batch)
    rows = []
    for number, (channels, width, granularity, stride) in enumerate(STAGES):
        block = make_block(machine, channels, width, granularity, precision)
        block.name = f'layer{number + 1}.1'
        size = (image // stride, image // stride)
        x = make_features(machine, block, batch, size)
        packed, static = pack_block(block, DTYPES[precision]), static_of(block)
        for rate in RATES:
            decided = smooth_mask(rate, [-(-e // granularity) for e in size], batch, 0).to(x)
            times = _measure(machine, packed, static, x, decided, FLOAT32[precision])
            found = model.block(describe_block(block, size), rate)
            rows.append(
                {
                    'block': block.name, 'precision': precision, 'batch': batch, 'image': image,
                    'activation_rate': rate,
                    'static': [found.static_us, times['static']],
                    'dynamic': [found.dynamic_us, times['dynamic']],
                    'ratio': [found.ratio, ratio(times['dynamic'], times['static'])],
                }
            )  # fmt: skip
    return rows


def _measure(machine, packed, static, x, decided, float32: str) -> dict[str, float]:
    """Microseconds of the static and the dynamic block."""
    options = Options(float32=float32)
    steps = {
        'static': lambda: static(x),
        'dynamic': lambda: run_block(packed, x, options, decided=decided),
    }
    runs = {name: graphed(machine, step, REPEATS) for name, step in steps.items()}
    return {name: 1000 * ms / REPEATS for name, ms in measure(machine, runs).items()}


def _mape(rows: list[dict], key: str) -> float:
    """Mean absolute percentage error of the predictions of ``key``."""
    errors = [abs(predicted - measured) / measured for predicted, measured in
              (row[key] for row in rows)]  # fmt: skip
    return 100 * sum(errors) / len(errors)
