"""The CPU part of VALIDATION.md: blocks of ResNet-101, predicted and measured.

Micro-convolutions (for the calibration), static and dynamic blocks run in turn, round after round,
so that all of them meet the same clock frequencies and the same neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import predictor_text as text
import torch
import torch.nn.functional as F
from calibrate import first_guess, micro_runs, refine
from predictor_measure import Timer, static_block

from latency_predictor import BlockSpec, Device, Fusion, LatencyModel, resnet

SIZES = {'224x224': (224, 224), '800x1216': (800, 1216)}
RATES = (0.3, 0.5, 0.7, 1.0)
GRANULARITIES = ((1, 2, 4, 8), (1, 2, 4, 7), (1, 2, 7), (1,))  # per stage

# What the measured code does: masker apart, one kernel that adds in place in both kinds of block.
FUSION = Fusion(masker_conv1=False, conv3_add=True)

# Blocks of shapes that ResNet-101 does not have, to calibrate the native executor: its peak and
# the cost of starting it.
LARGE = BlockSpec('large', 0, 'bottleneck', 192, 96, 192, 40, 40, granularity=5)
TINY = BlockSpec('tiny', 0, 'bottleneck', 32, 32, 32, 4, 4, granularity=2)


@dataclass(frozen=True)
class Result:
    """One measured block.

    Attributes:
        input: key of SIZES.
        block: its granularity is None if static.
        rate, dilated_rate: of the mask it ran on; 1 if static.
        measured_us, predicted_us: latency.
        spread: how much longer than the shortest run a median round was.
    """

    input: str
    block: BlockSpec
    rate: float
    dilated_rate: float
    measured_us: float
    predicted_us: float
    spread: float


def shapes(size: tuple[int, int]) -> list[BlockSpec]:
    """The different blocks of ResNet-101 at an input size: first and later ones of each stage."""
    found: dict = {}
    for block in resnet(101, size).blocks:
        found.setdefault((block.stage, block.in_channels, block.stride), block)
    return list(found.values())


def smooth_mask(height: int, width: int, rate: float, seed: int) -> torch.Tensor:
    """(1, 1, height, width) bool: the ``rate`` of highest values of smooth noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, max(2, height // 6), max(2, width // 6), generator=generator)
    noise = F.interpolate(coarse, (height, width), mode='bicubic', align_corners=False)
    noise = noise + 1e-3 * torch.rand(noise.shape, generator=generator)
    count = max(1, round(rate * height * width))
    return noise >= noise.flatten().topk(count).values[-1]


class DynamicRuns:
    """Blocks run by las_mm's native sparse executor on masks that are given to them.

    Raises on construction:
        ImportError, RuntimeError: the executor is not there or cannot be built; the message says
            why.
    """

    def __init__(self):
        from las_mm.ops.executors import EXECUTORS
        if 'cpu' not in EXECUTORS:
            raise RuntimeError('las_mm has no native executor')
        self._why_not = EXECUTORS['cpu'].why_not
        self._modules: dict = {}
        self._inputs: dict = {}
        self(TINY, 0.5)

    def __call__(self, block: BlockSpec, rate: float) -> tuple[Callable, float, float]:
        """A function that runs the block once, its activation rate and its dilated rate."""
        module, x = self._module(block), self._input(block)
        mask = smooth_mask(*block.grid, rate, seed=block.stage)
        private = not block.shortcut  # like inside a network: the block may write over its input

        def run():
            module.masker.decided = mask
            return module(x, private)

        run()
        return run, float(module.trace.activation_rate), float(module.trace.dilated_rate)

    def _module(self, block: BlockSpec):
        from las_mm.layers import DynamicBottleneck
        if block not in self._modules:
            module = DynamicBottleneck(block.in_channels, block.mid_channels, block.out_channels,
                                       block.granularity, block.stride).eval()
            # Runs in place read what the run before wrote: keep the values from growing.
            torch.nn.init.constant_(module.bn3.weight, 1e-3)
            module.executor = 'cpu'
            if reason := self._why_not(module, self._input(block)):
                raise RuntimeError(reason)
            self._modules[block] = module
        return self._modules[block]

    def _input(self, block: BlockSpec) -> torch.Tensor:
        shape = (1, block.in_channels, block.height * block.stride, block.width * block.stride)
        if shape not in self._inputs:
            x = torch.rand(shape).contiguous(memory_format=torch.channels_last)
            self._inputs[shape] = x
        return self._inputs[shape]


def dynamic_runs(size: tuple[int, int], runs: DynamicRuns) -> dict:
    """(block, asked rate) -> (run, r, r_dilated) for every shape, S and r."""
    specs = [block.with_granularity(s) for block in shapes(size)
             for s in GRANULARITIES[block.stage]]
    return {(spec, rate): runs(spec, rate) for spec in specs for rate in RATES}


def native_device(device: Device, times: dict) -> Device:
    """The device as the native executor sees it: its own peak and its own cost of starting."""
    kernels = len(LatencyModel(device).block(TINY, 1.0, 1.0, FUSION).operators)
    changed = dataclasses.replace(device, kernel_launch=times[TINY] * 1e6 / kernels)
    for _ in range(5):  # the peak enters nearly linearly
        predicted = LatencyModel(changed).block(LARGE, 1.0, 1.0, FUSION).dynamic_us
        lanes = {'fp32': changed.lanes['fp32'] * predicted / (times[LARGE] * 1e6)}
        changed = dataclasses.replace(changed, lanes=lanes)
    return changed


def sections(seconds: float) -> str:
    """Measure for about ``seconds`` and describe, in Markdown."""
    timer = Timer('cpu', threads=1)
    with torch.inference_mode():
        guess = first_guess('validation', timer, 1, ('fp32',))
        micro = micro_runs('cpu')
        static = {(label, block): static_block(block)
                  for label, size in SIZES.items() for block in shapes(size)}
        try:
            runner, missing = DynamicRuns(), None
        except (ImportError, RuntimeError) as reason:
            runner, missing = None, str(reason)
        dynamic, native_runs = {}, {}
        if runner is not None:
            native_runs = {spec: runner(spec, 1.0)[0] for spec in (LARGE, TINY)}
            dynamic = {(label, *key): value for label, size in SIZES.items()
                       for key, value in dynamic_runs(size, runner).items()}
        print(f'measuring {len(micro) + len(static) + len(dynamic)} blocks and convolutions')
        best, spread = timer.interleaved(
            {**micro, **static, **native_runs, **{k: v[0] for k, v in dynamic.items()}}, seconds)
    device, misfit = refine(guess, {name: best[name] for name in micro})
    model = LatencyModel(device)
    static_results = [Result(
        label, block, 1.0, 1.0, best[label, block] * 1e6,
        model.block(block, fusion=FUSION).static_us, spread[label, block])
        for label, block in static]
    answer = text.static_section(static_results, device, misfit)
    if missing is not None:
        return answer + '\n' + text.missing_section(missing)
    native = native_device(device, best)
    native_model = LatencyModel(native)
    dynamic_results = [Result(
        key[0], key[1], r, dilated, best[key] * 1e6,
        native_model.block(key[1], r, dilated, FUSION).dynamic_us, spread[key])
        for key, (_, r, dilated) in dynamic.items()]
    return answer + '\n' + text.dynamic_section(dynamic_results, static_results, device, native)
