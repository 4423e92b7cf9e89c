"""Refine a device so that the model's own predictions fit a set of micro-convolutions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

from latency_predictor import Device, LayerSpec
from latency_predictor import operators as ops
from latency_predictor.block import layer_operator
from latency_predictor.schedule import schedule

from .timer import Convolution

# (C_in, C_out, edge, kernel): small ones are bound by computation, those of 288 x 288 by off-chip
# memory, those with 1280 channels by their weights, the last one by the cost of starting it.
_MICRO_CONVOLUTIONS = (
    (96, 96, 40, 3),
    (192, 96, 48, 1),
    (96, 384, 32, 1),
    (192, 192, 20, 3),
    (384, 384, 10, 3),
    (768, 192, 20, 1),
    (192, 48, 288, 1),
    (48, 192, 288, 1),
    (48, 48, 288, 3),
    (384, 96, 144, 1),
    (1280, 1280, 7, 1),
    (640, 640, 6, 3),
    (320, 80, 96, 1),
    (80, 320, 96, 1),
    (16, 16, 4, 1),
    (96, 96, 160, 3),
    (768, 192, 80, 1),
    (192, 768, 80, 1),
    (384, 384, 44, 3),
)
_MICRO_ADDITIONS = ((48, 192, 288), (96, 384, 32), (80, 320, 96))  # 1x1 with residual addition


def micro_operators() -> dict:
    """name -> (operator of the model, arguments to run it, with residual addition)."""
    found = {}
    for inputs, outputs, edge, kernel in _MICRO_CONVOLUTIONS:
        layer = LayerSpec('conv', inputs, outputs, edge, edge, kernel)
        found[f'{inputs}-{outputs}@{edge}k{kernel}'] = layer_operator(layer), layer, False
    for inputs, outputs, edge in _MICRO_ADDITIONS:
        layer = LayerSpec('conv', inputs, outputs, edge, edge, 1)
        operator = ops.with_addition(layer_operator(layer), 'conv_add', edge)
        found[f'{inputs}-{outputs}@{edge}add'] = operator, layer, True
    return found


def micro_runs(device: str) -> dict:
    """name -> function that runs the micro-convolution."""
    runs = {}
    for name, (_, layer, addition) in micro_operators().items():
        convolution = Convolution(
            (layer.in_channels, layer.out_channels),
            (layer.height, layer.width),
            layer.kernel,
            device=device,
        )
        x = convolution.input()
        if addition:
            identity = convolution(x)
            runs[name] = lambda c=convolution, x=x, i=identity: c.add_to(x, i)
        else:
            runs[name] = lambda c=convolution, x=x: c(x)
    return runs


def micro_misfit(measured: dict[str, float]) -> Callable[[Device], float]:
    """Device -> mean absolute logarithmic error of the model over the micro-convolutions."""
    operators = micro_operators()

    def misfit(device: Device) -> float:
        predicted = {
            name: float(schedule(operators[name][0], device, tiles='divisors').total)
            for name in measured
        }
        return mean_log_error(predicted, measured)

    return misfit


def mean_log_error(predicted: dict, measured: dict) -> float:
    """Mean of |ln(predicted / measured)| over the keys of ``measured``."""
    return sum(abs(math.log(predicted[name] / measured[name])) for name in measured) / len(measured)


def refine(
    device: Device,
    misfit: Callable[[Device], float],
    keys: Sequence[str] = ('offchip_bandwidth', 'onchip_bandwidth', 'kernel_launch'),
) -> tuple[Device, float]:
    """Coordinate search over ``keys``, the fp32 peak and the overlap; a few hundred trials.

    Returns the device and its ``misfit``.
    """
    best, error = device, misfit(device)

    def variants(step: float) -> Iterator[Device]:
        for key in keys:
            for factor in (1 + step, 1 / (1 + step)):
                yield dataclasses.replace(best, **{key: getattr(best, key) * factor})
        for factor in (1 + step / 4, 1 / (1 + step / 4)):
            lanes = {**best.lanes, 'fp32': best.lanes['fp32'] * factor}
            yield dataclasses.replace(best, lanes=lanes)
        for change in (step / 2, -step / 2):
            yield dataclasses.replace(best, overlap=min(1.0, max(0.0, best.overlap + change)))

    step = 0.5
    while step > 0.01:
        trials = [(misfit(trial), trial) for trial in variants(step)]
        trial_error, trial = min(trials, key=lambda pair: pair[0])
        if trial_error < error - 1e-6:
            best, error = trial, trial_error
        else:
            step /= 1.5
    return best, error
