"""Bytes and FLOP per second of each kernel, to be held against the device's ceilings."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from benchmarking.masks import make_mask
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from las_mm.executors.triton.block import run_block
from las_mm.executors.triton.options import Options
from las_mm.executors.triton.packing import PackedBlock, pack_block
from las_mm.executors.triton.sizes import Sizes
from las_mm.layers import BlockTrace

from .setup import (
    DTYPES,
    FLOAT32,
    Machine,
    Task,
    make_block,
    make_features,
    ratio,
    set_precision,
)

RATE, ROUNDS = 0.5, 20
STAGES = ((256, 64, 4, 4), (512, 128, 4, 8), (1024, 256, 7, 16), (2048, 512, 1, 32))
CASES = (('fp16', 1), ('fp16', 8), ('fp32', 1), ('fp32', 8))
IMAGE = (800, 1216)


@dataclass(frozen=True)
class Work:
    """What a kernel must do at least.

    Attributes:
        bytes: Read and written, everything once.
        flops: A multiply-accumulate counts as two.
    """

    bytes: float
    flops: float


def count_work(packed: PackedBlock, sizes: Sizes, trace: BlockTrace, itemsize: int) -> dict:
    """The work of each kernel of a block without shortcut convolution, by kernel and variant."""
    first, second, third = packed.convs
    hidden, output = sizes.hidden_pixels, sizes.output_pixels
    r, dilated = (rates.mean().item() for rates in (trace.activation_rate, trace.dilated_rate))
    channels, width = first.in_channels, first.out_channels
    weights = [conv.weight.numel() * itemsize for conv in packed.convs]
    read = hidden * channels * itemsize
    macs = [hidden * channels * width, output * second.weight.numel(), output * width * channels]
    middle = output * width * itemsize
    return {
        'masker_conv1': Work(
            read + hidden * width * itemsize + weights[0], 2 * (macs[0] + hidden * channels)
        ),
        'masker': Work(read, 2 * hidden * channels),
        'gather_conv 1x1': Work(
            dilated * (read + hidden * width * itemsize) + weights[0], 2 * dilated * macs[0]
        ),
        'gather_conv 3x3': Work(
            dilated * hidden * width * itemsize + r * middle + weights[1], 2 * r * macs[1]
        ),
        'conv_scatter_add': Work(
            r * (middle + 2 * output * channels * itemsize) + weights[2], 2 * r * macs[2]
        ),
    }


def tasks(machine: Machine, results: dict) -> Iterator[Task]:
    """Every kernel of a block of each stage, timed by the profiler."""
    [ceilings] = results.get('ceilings') or [{}]
    for precision, batch in CASES[:1] if machine.dry else CASES:
        for number, stage in enumerate(STAGES[:1] if machine.dry else STAGES, 1):
            run = partial(_run, machine, ceilings, precision, batch, stage)
            yield Task(f'{precision} batch {batch} stage {number}', 5, run)


@torch.no_grad()
def _run(
    machine: Machine, ceilings: dict, precision: str, batch: int, stage: tuple[int, int, int, int]
) -> Iterator[dict]:
    set_precision(precision)
    channels, width, granularity, stride = stage
    block = make_block(machine, channels, width, granularity, precision)
    size = tuple(-(-edge // stride) for edge in IMAGE)
    x = make_features(machine, block, batch, size)
    for fused in (True, False):
        options = Options(masker_conv1=fused, float32=FLOAT32[precision])
        for row in _profile(machine, block, x, precision, options):
            yield row | share_of_ceilings(row, ceilings, precision)


def share_of_ceilings(row: dict, ceilings: dict, precision: str) -> dict[str, float | None]:
    """What part of the measured bandwidth and FLOP/s a kernel reaches; None if not measured.

    ``fp32`` is three TF32 products each, so that its ceiling is a third of TF32's.
    """
    peak = ceilings.get('tf32_TFLOP_per_s' if precision == 'fp32' else f'{precision}_TFLOP_per_s')
    peak = peak / 3 if peak is not None and precision == 'fp32' else peak
    return {
        'of_bandwidth': ratio(row['TB_per_s'], ceilings.get('copy_TB_per_s')),
        'of_flops': ratio(row['TFLOP_per_s'], peak),
    }


def _profile(machine, block, x, precision, options) -> list[dict]:
    packed = pack_block(block, DTYPES[precision])
    sizes = Sizes.of(packed, x)
    decided = make_mask(sizes.grid, RATE, seed=0, batch=len(x)).to(x)
    block.masker.decided = decided
    block(x)  # dense, for its trace
    work = count_work(packed, sizes, block.trace, x.element_size())
    times = _kernel_times(machine, lambda: run_block(packed, x, options, decided=decided))
    rows = []
    for name, us in times.items():
        done = work.get(name, Work(0, 0))
        rows.append(
            {
                'kernel': name, 'shape': list(x.shape),
                'granularity': packed.granularity, 'fused': options.masker_conv1, 'us': us,
                'TB_per_s': us and done.bytes / us / 1e6,
                'TFLOP_per_s': us and done.flops / us / 1e6,
            }
        )  # fmt: skip
    return rows


def _kernel_times(machine: Machine, run) -> dict[str, float | None]:
    """Mean microseconds of each kernel; the two convolutions by list come in this order."""
    run()
    if machine.dry:
        return dict.fromkeys(('masker_conv1', 'gather_conv 3x3', 'conv_scatter_add'))
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        for _ in range(ROUNDS):
            run()
        torch.cuda.synchronize()
    return mean_durations(record.events())


def mean_durations(events: Iterable[FunctionEvent]) -> dict[str, float]:
    """Mean microseconds of each of our kernels; those of PyTorch have longer names."""
    durations: dict[str, list[float]] = {}
    own = [
        event for event in events if event.device_type.name == 'CUDA' and event.name.isidentifier()
    ]
    for event in sorted(own, key=lambda event: event.time_range.start):
        durations.setdefault(event.name, []).append(event.time_range.elapsed_us())
    found = {}
    for name, values in durations.items():
        if name != 'gather_conv':
            found[name] = sum(values) / len(values)
        elif len(values) == 2 * ROUNDS:
            found['gather_conv 1x1'] = sum(values[::2]) / ROUNDS
            found['gather_conv 3x3'] = sum(values[1::2]) / ROUNDS
        else:
            found['gather_conv 3x3'] = sum(values) / len(values)
    return found
