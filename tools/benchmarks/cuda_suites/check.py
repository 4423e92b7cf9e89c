"""Is it right on this GPU? Against float64, beside cuDNN's own error, on poisoned memory."""

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import torch
from benchmarking.inverted import InvertedResidual
from benchmarking.masks import make_mask
from torch import Tensor

from las_mm.executors.triton import Options, TritonExecutor
from las_mm.inference.graphed import GraphedBackbone
from las_mm.layers import DynamicBasicBlock, DynamicBlock, DynamicBottleneck

from .setup import DTYPES, Machine, Task, make_backbone

SWITCHES = ({'masker_conv1': False}, {'gather_conv2': False}, {'scatter_add': False})
PLANS = {
    'incremental': {'incremental_masker': True},
    'incremental, PDL': {'incremental_masker': True, 'pdl': True},
    'fused': {'masker_conv1': True},
    'separate': {'masker_conv1': False, 'incremental_masker': False},
}
FLOAT32_BOUND = 1e-4  # relative to the largest output
TIMES_CUDNN = 2.0  # a half-precision error may be so many times that of cuDNN


def tasks(machine: Machine, results: dict) -> Iterator[Task]:
    """Backbones in every plan, and blocks of every granularity and precision."""
    plans = ['incremental'] if machine.dry else list(PLANS)
    granularities = (2, None) if machine.dry else (1, 2, 4, 7, 8, 14, None)
    precisions = ('fp32', 'fp16') if machine.dry else ('fp32', 'fp16', 'bf16')
    parts = [partial(check_backbone, machine, plan) for plan in plans]
    parts += [partial(check_blocks, machine.device, granularity, precision)
              for granularity in granularities for precision in precisions]  # fmt: skip
    yield Task('against float64', 10, partial(_run, machine, parts))


def _run(machine: Machine, parts: list[Callable[[], dict]]) -> Iterator[dict]:
    if machine.dry:
        yield from map(_call, parts)
        return
    workers = min(len(parts), os.cpu_count() or 1)
    # A process for each: kernels are compiled in parallel, an error of the device costs no other.
    with get_context('spawn').Pool(workers, maxtasksperchild=1) as pool:
        yield from pool.imap_unordered(_call, parts)


def _call(part: Callable[[], dict]) -> dict:
    try:
        return part()
    except Exception as error:  # the other parts are to be checked, too
        return {'what': str(part), 'checks': 0, 'failures': [f'{type(error).__name__}: {error}']}


def check_blocks(device: torch.device, granularity: int | None, precision: str) -> dict:
    """Number of checks and a line for each failure; None stands for special blocks."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills what is allocated with NaN
    cases = _special(device) if granularity is None else _bottlenecks(device, granularity)
    failures, count = [], 0
    for number, (name, block, x) in enumerate(cases):
        # Each case as it is by default and with one switch: all pairs would compile for long.
        switch = SWITCHES[number % len(SWITCHES)]
        for switches in ({},) if device.type == 'cpu' or precision == 'bf16' else ({}, switch):
            count += 1
            try:
                fault = check(block, x, precision, Options(tune=False, **switches))
            except Exception as error:  # of the compiler or the device: to be seen beside others
                fault = f'{type(error).__name__}: {error}'
            if fault:
                failures.append(f'{name} {switches}: {fault}')
    torch.use_deterministic_algorithms(False)
    name = 'special blocks' if granularity is None else f'S {granularity}'
    return {'what': f'{name} {precision}', 'checks': count, 'failures': failures}


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
    for granularity in (1, 4):
        name, block = f'inverted residual S {granularity}', InvertedResidual(24, granularity)
        yield _decided(name, block, (9, 10), 0.5, device)


def _decided(name, block, size, rate, device) -> tuple[str, DynamicBlock, Tensor]:
    block = block.eval().to(device)
    with torch.no_grad():
        block.masker.conv.weight.normal_()
        block.masker.conv.bias.zero_()
    x = torch.randn(2, block.branch.steps[0].op.in_channels, *size, device=device)
    if rate is not None:
        grid = [-(-edge // block.masker.window) for edge in size]
        block.masker.decided = make_mask(grid, rate, seed=1, batch=2).to(device)
    return f'{name} r {"own" if rate is None else rate}', block, x


@torch.no_grad()
def check(block: DynamicBlock, x: Tensor, precision: str, options: Options) -> str | None:
    """What is wrong with the Triton executor on a block, None if nothing."""
    dtype = DTYPES[precision]
    block, x = copy.deepcopy(block).to(dtype), x.to(dtype)
    executor = TritonExecutor(replace(options, float32='tf32x3'))
    if reason := executor.why_not(block, x):
        return f'not run: {reason}'
    exact = copy.deepcopy(block).double()
    exact.executor = block.executor = None
    reference = exact(x.double())
    dense_error = _error(block(x), reference)
    dense_mask = block.trace.mask
    block.executor = executor
    out = block(x)
    if not torch.equal(block.trace.mask, dense_mask):
        return 'another mask'
    error = _error(out, reference)
    bound = FLOAT32_BOUND if precision == 'fp32' else TIMES_CUDNN * dense_error
    return None if error <= bound else f'error {error:.2e}, allowed {bound:.2e}'


@torch.no_grad()
def check_backbone(machine: Machine, plan: str) -> dict:
    """A captured backbone on images it has not seen, against the dense executor in float64."""
    torch.manual_seed(0)
    backbone = make_backbone(machine, 'fp32', depth=50)
    for block in backbone.blocks:
        block.masker.conv.weight.normal_()
        block.masker.conv.bias.zero_()
    images, *shape = (2, 1, 3, 64, 64) if machine.dry else (3, 2, 3, 160, 224)
    first, *others = torch.rand(images, *shape, device=machine.device)
    exact = copy.deepcopy(backbone).double()
    exact.executor = 'dense'
    run = GraphedBackbone(backbone, first, Options(tune=False, **PLANS[plan]))
    failures = []
    for number, images in enumerate(others):
        expected, outs = exact(images.double()), run(images)
        masks = [[trace.mask.bool() for trace in traces] for traces in (run.traces, exact.traces)]
        if not all(map(torch.equal, *masks)):
            failures.append(f'images {number}: other masks')
        error = max(_error(*pair) for pair in zip(outs, expected, strict=True))
        if not error <= FLOAT32_BOUND:
            failures.append(f'images {number}: error {error:.2e}, allowed {FLOAT32_BOUND:.2e}')
    return {'what': f'backbone, {plan}', 'checks': len(others), 'failures': failures}


def _error(out: Tensor, reference: Tensor) -> float:
    """Largest error relative to the largest value; infinite if something was never written."""
    difference = (out.double() - reference).abs().max() / reference.abs().max()
    return difference.nan_to_num(nan=float('inf')).item()
