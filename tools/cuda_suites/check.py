"""Is it right on this GPU? Against float64, beside cuDNN's own error, on poisoned memory."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from las_mm.layers import DynamicBasicBlock, DynamicBlock, DynamicBottleneck
from las_mm.ops.executors.triton import why_not_triton
from las_mm.ops.executors.triton.options import Options, use_options

from .setup import DTYPES, Machine, smooth_mask

SWITCHES = (
    {}, {'masker_conv1': False}, {'gather_conv2': False}, {'scatter_add': False}, {'pdl': True},
)  # fmt: skip
FLOAT32_BOUND = 1e-4  # relative to the largest output
TIMES_CUDNN = 2.0  # a half-precision error may be so many times that of cuDNN


def run(machine: Machine) -> dict:
    """Check every case.

    Returns:
        Number of cases, and a line for each that failed.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills what is allocated with NaN
    failures, count = [], 0
    try:
        for name, block, x in _cases(machine):
            for precision in ('fp32', 'fp16') if machine.dry else ('fp32', 'fp16', 'bf16'):
                for switches in SWITCHES[:1] if machine.dry else SWITCHES:
                    count += 1
                    fault = check(block, x, precision, Options(tune=False, **switches))
                    if fault:
                        failures.append(f'{name} {precision} {switches}: {fault}')
    finally:
        torch.use_deterministic_algorithms(False)
    return {'cases': count, 'failures': failures}


def _cases(machine: Machine) -> Iterator[tuple[str, DynamicBlock, Tensor]]:
    torch.manual_seed(0)
    rates = (None, 0.4) if machine.dry else (None, 0.0, 0.1, 0.5, 1.0)
    for granularity in (1, 2) if machine.dry else (1, 2, 4, 7, 8, 14):
        for stride in (1, 2):
            for rate in rates:
                width = 8 if machine.dry else 64
                block = DynamicBottleneck(2 * width, width, 4 * width, granularity, stride)
                size = (9, 10) if machine.dry else (57 * stride, 44 * stride)
                yield _decided(f'S {granularity} stride {stride}', block, size, rate, machine)
    for groups in (4, 8):
        block = DynamicBottleneck(64, 64, 64, 2, groups=groups, dilation=2)
        yield _decided(f'groups {groups} dilation 2', block, (9, 10), 0.5, machine)
    yield _decided('basic block', DynamicBasicBlock(64, 64, 2), (9, 10), 0.5, machine)


def _decided(name, block, size, rate, machine) -> tuple[str, DynamicBlock, Tensor]:
    block = block.eval().to(machine.device)
    with torch.no_grad():
        block.masker.conv.weight.normal_()
        block.masker.conv.bias.zero_()
    x = torch.randn(2, block.conv1.in_channels, *size, device=machine.device)
    if rate is not None:
        grid = [-(-edge // block.masker.window) for edge in size]
        block.masker.decided = smooth_mask(rate, grid, 2, seed=1).to(machine.device)
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
