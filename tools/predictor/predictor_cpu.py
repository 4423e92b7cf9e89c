"""The CPU part of VALIDATION.md: blocks of ResNet-101, predicted and measured.

Micro-convolutions (for the calibration), static and dynamic blocks run in turn, round after round,
so that all of them meet the same clock frequencies and the same neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import predictor_text as text
import torch
from benchmarking.masks import make_mask
from calibration.fitting import mean_log_error, micro_misfit, micro_runs, refine
from calibration.machine import first_guess
from calibration.timer import Timer, static_block

from latency_predictor import BlockSpec, Device, Fusion, LatencyModel, bottleneck, resnet

SIZES = {'224x224': (224, 224), '800x1216': (800, 1216)}
RATES = (0.3, 0.5, 0.7, 1.0)
GRANULARITIES = ((1, 2, 4, 8), (1, 2, 4, 7), (1, 2, 7), (1,))  # per stage

# What the measured code does: masker apart, one kernel that adds in place in both kinds of block.
FUSION = Fusion(masker_conv1=False, conv3_add=True)

# Blocks of shapes that ResNet-101 does not have, to calibrate the native executor: C_in = C_out,
# C_mid, edge, S.
MICRO_BLOCKS = tuple(
    bottleneck(f'micro {channels}', 0, channels, mid, channels, edge, edge, granularity=size)
    for channels, mid, edge, size in (
        (32, 32, 4, 2),
        (192, 96, 40, 5),
        (320, 80, 64, 4),
        (640, 160, 20, 2),
        (384, 96, 144, 6),
        (192, 48, 288, 8),
    )
)
MICRO_RATES = (0.5, 1.0)


@dataclass(frozen=True)
class Result:
    """One measured block.

    Attributes:
        input: key of SIZES.
        block: its granularity is None if static.
        rate, dilated_rate: of the mask it ran on; 1 if static.
        asked: the rate asked of the mask; whole patches come only near it.
        measured_us, predicted_us: latency.
        spread: how much longer than the shortest run a median round was.
    """

    input: str
    block: BlockSpec
    rate: float
    dilated_rate: float
    asked: float
    measured_us: float
    predicted_us: float
    spread: float


def shapes(size: tuple[int, int]) -> list[BlockSpec]:
    """The different blocks of ResNet-101 at an input size: first and later ones of each stage."""
    found: dict = {}
    for block in resnet(101, size).blocks:
        found.setdefault((block.stage, block.in_channels, block.stride), block)
    return list(found.values())


class DynamicRuns:
    """Blocks run by las_mm's native sparse executor on masks that are given to them.

    Raises on construction:
        ImportError, RuntimeError: the executor is not there or cannot be built; the message says
            why.
    """

    def __init__(self):
        from las_mm.executors import find_executor

        self._executor = find_executor('cpu')
        self._modules: dict = {}
        self._inputs: dict = {}
        self(MICRO_BLOCKS[0], 0.5)

    def __call__(self, block: BlockSpec, rate: float) -> tuple[Callable, float, float]:
        """A function that runs the block once, its activation rate and its dilated rate."""
        module, x = self._module(block), self._input(block)
        mask = make_mask(block.grid, rate, seed=block.stage)
        private = not block.shortcut  # like inside a network: the block may write over its input

        def run():
            module.masker.decided = mask
            return module(x, private)

        run()
        return run, float(module.trace.activation_rate), float(module.trace.dilated_rate)

    def _module(self, block: BlockSpec):
        from las_mm.layers import DynamicBottleneck

        if block not in self._modules:
            module = DynamicBottleneck(
                block.in_channels,
                block.inner_channels,
                block.out_channels,
                block.granularity,
                block.stride,
            ).eval()
            # Runs in place read what the run before wrote: keep the values from growing.
            torch.nn.init.constant_(module.bn3.weight, 1e-3)
            module.executor = self._executor
            if reason := self._executor.why_not(module, self._input(block)):
                raise RuntimeError(reason)
            self._modules[block] = module
        return self._modules[block]

    def _input(self, block: BlockSpec) -> torch.Tensor:
        shape = (1, block.in_channels, *block.input_size)
        if shape not in self._inputs:
            x = torch.rand(shape).contiguous(memory_format=torch.channels_last)
            self._inputs[shape] = x
        return self._inputs[shape]


def dynamic_runs(size: tuple[int, int], runs: DynamicRuns) -> dict:
    """(block, asked rate) -> (run, r, r_dilated) for every shape, S and r."""
    specs = [
        block.with_granularity(s) for block in shapes(size) for s in GRANULARITIES[block.stage]
    ]
    return {(spec, rate): runs(spec, rate) for spec in specs for rate in RATES}


def _predicted(model: LatencyModel, block: BlockSpec, rate: float, dilated: float) -> float:
    """Microseconds of a dynamic block as the native executor runs it."""
    return model.block(block, {'sites': rate, 'dilated': dilated}, FUSION).dynamic_us


def native_device(device: Device, measured: dict) -> tuple[Device, float]:
    """The device as the native executor sees it: own peak, cost of starting, and overlap.

    Args:
        device: as oneDNN sees it; its bandwidths stay.
        measured: (micro-block, r, r_dilated) -> seconds.
    """

    def misfit(trial: Device) -> float:
        model = LatencyModel(trial)
        predicted = {key: _predicted(model, *key) * 1e-6 for key in measured}
        return mean_log_error(predicted, measured)

    return refine(replace(device, winograd=1.0), misfit, keys=('kernel_launch',))


@dataclass
class Session:
    """Everything that is run in turn; keys are unique over all four groups."""

    micro: dict
    static: dict
    micro_blocks: dict
    dynamic: dict
    missing: str | None

    @classmethod
    def prepare(cls) -> Session:
        static = {
            (label, block): static_block(block)
            for label, size in SIZES.items()
            for block in shapes(size)
        }
        try:
            runner = DynamicRuns()
        except (ImportError, RuntimeError) as reason:
            return cls(micro_runs('cpu'), static, {}, {}, str(reason))
        micro_blocks = {
            (block, rate): runner(block, rate) for block in MICRO_BLOCKS for rate in MICRO_RATES
        }
        dynamic = {
            (label, *key): value
            for label, size in SIZES.items()
            for key, value in dynamic_runs(size, runner).items()
        }
        return cls(micro_runs('cpu'), static, micro_blocks, dynamic, None)

    def measure(self, timer: Timer, seconds: float):
        blocks = {key: run for key, (run, _, _) in (self.micro_blocks | self.dynamic).items()}
        return timer.interleaved(self.micro | self.static | blocks, seconds)


def sections(seconds: float) -> str:
    """Measure for about ``seconds`` and describe, in Markdown."""
    timer = Timer('cpu', threads=1)
    with torch.inference_mode():
        guess = first_guess('validation', timer, 1, ('fp32',))
        session = Session.prepare()
        print(f'measuring {len(session.static)} static and {len(session.dynamic)} dynamic blocks')
        best, spread = session.measure(timer, seconds)
    device, misfit = refine(guess, micro_misfit({name: best[name] for name in session.micro}))
    model = LatencyModel(device)
    static = [
        Result(
            label,
            block,
            1.0,
            1.0,
            1.0,
            best[label, block] * 1e6,
            model.block(block, fusion=FUSION).static_us,
            spread[label, block],
        )
        for label, block in session.static
    ]
    answer = text.static_section(static, device, misfit) + '\n'
    if session.missing is not None:
        return answer + text.missing_section(session.missing)
    native, native_misfit = native_device(
        device,
        {
            (block, r, dilated): best[block, rate]
            for (block, rate), (_, r, dilated) in session.micro_blocks.items()
        },
    )
    native_model = LatencyModel(native)
    dynamic = [
        Result(
            key[0],
            key[1],
            r,
            dilated,
            key[2],
            best[key] * 1e6,
            _predicted(native_model, key[1], r, dilated),
            spread[key],
        )
        for key, (_, r, dilated) in session.dynamic.items()
    ]
    return answer + text.dynamic_section(dynamic, static, native, native_misfit)
