"""Is it right on this GPU? Against float64, beside cuDNN's own error, on poisoned memory."""

import copy
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import torch
from torch import Tensor

from las_mm.layers import DynamicBasicBlock, DynamicBlock, DynamicBottleneck
from las_mm.ops.executors.triton import why_not_triton
from las_mm.ops.executors.triton.options import Options, use_options

from .setup import DTYPES, Machine, smooth_mask

SWITCHES = (
    {'masker_conv1': False}, {'gather_conv2': False}, {'scatter_add': False}, {'pdl': True},
)  # fmt: skip
FLOAT32_BOUND = 1e-4  # relative to the largest output
TIMES_CUDNN = 2.0  # a half-precision error may be so many times that of cuDNN


def run(machine: Machine) -> dict:
    """Check every case, those of each granularity in a process of their own.

    Returns:
        Number of checks, and a line for each that failed.
    """
    granularities = (1, 2) if machine.dry else (1, 2, 4, 7, 8, 14)
    tasks = [(machine.device, granularity) for granularity in (*granularities, None)]
    if machine.dry:
        found = [run_task(task) for task in tasks]
    else:
        with ProcessPoolExecutor(len(tasks), mp_context=get_context('spawn')) as pool:
            found = list(pool.map(run_task, tasks))
    return {
        'checks': sum(count for count, _ in found),
        'failures': [line for _, failures in found for line in failures],
    }


def run_task(task: tuple[torch.device, int | None]) -> tuple[int, list[str]]:
    """Number of checks and failures at a granularity; None stands for special blocks."""
    device, granularity = task
    dry = device.type == 'cpu'
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills what is allocated with NaN
    cases = _special(device) if granularity is None else _bottlenecks(device, granularity)
    failures, count = [], 0
    for number, (name, block, x) in enumerate(cases):
        for precision in ('fp32', 'fp16') if dry else ('fp32', 'fp16', 'bf16'):
            # Each case as it is by default and with one switch: all pairs would compile for long.
            for switches in ({},) if dry else ({}, SWITCHES[number % len(SWITCHES)]):
                count += 1
                fault = check(block, x, precision, Options(tune=False, **switches))
                if fault:
                    failures.append(f'{name} {precision} {switches}: {fault}')
    torch.use_deterministic_algorithms(False)
    return count, failures


def _bottlenecks(device: torch.device, granularity: int) -> Iterator[tuple]:
    dry = device.type == 'cpu'
    for stride in (1, 2):
        for rate in (None, 0.4) if dry else (None, 0.0, 0.1, 0.5, 1.0):
            width = 8 if dry else 64
            block = DynamicBottleneck(2 * width, width, 4 * width, granularity, stride)
            size = (9, 10) if dry else (57 * stride, 44 * stride)
            yield _decided(f'S {granularity} stride {stride}', block, size, rate, device)


def _special(device: torch.device) -> Iterator[tuple]:
    for groups in (4, 8):
        block = DynamicBottleneck(64, 64, 64, 2, groups=groups, dilation=2)
        yield _decided(f'groups {groups} dilation 2', block, (9, 10), 0.5, device)
        block = DynamicBottleneck(64, 64, 64, 2, groups=groups, squeeze_channels=16)
        yield _decided(f'groups {groups} gated', block, (9, 10), 0.5, device)
    yield _decided('basic block', DynamicBasicBlock(64, 64, 2), (9, 10), 0.5, device)


def _decided(name, block, size, rate, device) -> tuple[str, DynamicBlock, Tensor]:
    block = block.eval().to(device)
    with torch.no_grad():
        block.masker.conv.weight.normal_()
        block.masker.conv.bias.zero_()
    x = torch.randn(2, block.conv1.in_channels, *size, device=device)
    if rate is not None:
        grid = [-(-edge // block.masker.window) for edge in size]
        block.masker.decided = smooth_mask(rate, grid, 2, seed=1).to(device)
    return f'{name} r {"own" if rate is None else rate}', block, x


@torch.no_grad()
def check(block: DynamicBlock, x: Tensor, precision: str, options: Options) -> str | None:
    """What is wrong with the Triton executor on a block, None if nothing."""
    dtype = DTYPES[precision]
    block, x = copy.deepcopy(block).to(dtype), x.to(dtype)
    reason = why_not_triton(block, x)
    if reason:
        return f'not run: {reason}'
    exact = copy.deepcopy(block).double()
    exact.executor = block.executor = 'dense'
    reference = exact(x.double())
    dense_error = _error(block(x), reference)
    dense_mask = block.trace.mask
    block.executor = 'triton'
    with use_options(replace(options, float32='tf32x3')):
        out = block(x)
    if not torch.equal(block.trace.mask, dense_mask):
        return 'another mask'
    error = _error(out, reference)
    bound = FLOAT32_BOUND if precision == 'fp32' else TIMES_CUDNN * dense_error
    return None if error <= bound else f'error {error:.2e}, allowed {bound:.2e}'


def _error(out: Tensor, reference: Tensor) -> float:
    """Largest error relative to the largest value; infinite if something was never written."""
    difference = (out.double() - reference).abs().max() / reference.abs().max()
    return difference.nan_to_num(nan=float('inf')).item()
