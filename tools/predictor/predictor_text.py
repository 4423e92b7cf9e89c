"""Words, tables and error measures of the CPU part of VALIDATION.md."""

from __future__ import annotations

import numpy as np

from latency_predictor import Device
from latency_predictor.tables import spearman
from latency_predictor.validation import markdown_table

STATIC_TITLE = "## This machine's CPU, static blocks of ResNet-101\n\n"
DYNAMIC_TITLE = "## This machine's CPU, dynamic blocks of ResNet-101\n\n"


def met(condition: bool) -> str:
    return 'met' if condition else 'not met'


def summary(results) -> str:
    """MAPE, mean error, share within 10 %, rank correlation, each beside its goal."""
    predicted = np.array([r.predicted_us for r in results])
    measured = np.array([r.measured_us for r in results])
    relative = predicted / measured - 1
    mape, within = np.abs(relative).mean(), (np.abs(relative) <= 0.1).mean()
    rank = spearman(predicted, measured)
    return (
        f'MAPE {100 * mape:.1f} % (goal 5 %: {met(mape <= 0.05)}), mean error '
        f'{100 * relative.mean():+.1f} %,\n  {100 * within:.0f} % within 10 %, '
        f'Spearman {rank:.4f} (goal 0.98: {met(rank >= 0.98)}).'
    )


def gmacs(device: Device) -> float:
    """Peak in 1e9 multiply-accumulates per second."""
    return device.macs_per_second() * device.processing_engines / 1e9


def static_section(results, device: Device, misfit: float) -> str:
    rows = [
        (
            r.input,
            r.block.name,
            r.measured_us,
            r.predicted_us,
            f'{100 * (r.predicted_us / r.measured_us - 1):+.1f} %',
            f'{100 * r.spread:.1f} %',
        )
        for r in results
    ]
    columns = ('input', 'block', 'measured us', 'predicted us', 'error', 'spread')
    noise = 100 * np.median([r.spread for r in results])
    return (
        STATIC_TITLE
        + f"""{device.label}, one thread, its CPU time, the shortest of interleaved
runs: the machine is shared, and time given to other processes must not count. Static blocks run as
fast as PyTorch can: oneDNN with prepacked weights, channels last, ReLU and addition fused. The one
calibration saw micro-convolutions of other shapes only, so that **every shape below is held out**;
it fitted those to {100 * misfit:.1f} %: peak {gmacs(device):.0f} GMAC/s,
off-chip {device.offchip_bandwidth:.1f} GB/s beyond {device.onchip_capacity:.0f} MB,
on-chip {device.onchip_bandwidth:.0f} GB/s, {device.kernel_launch:.1f} us a kernel,
overlap {device.overlap:.2f}.

{markdown_table(columns, rows)}
- {summary(results)}
- Noise floor: a median round of runs is {noise:.1f} % above the shortest.
"""
    )


def missing_section(reason: str) -> str:
    return DYNAMIC_TITLE + (
        f"Not measured: {' '.join(reason.split())}. Where las_mm's native sparse executor can be "
        'built,\n`python tools/predictor/validate_predictor.py` measures it.\n'
    )


def dynamic_section(results, static_results, native: Device, misfit: float) -> str:
    static = {(r.input, r.block): r for r in static_results}
    baseline = [static[r.input, r.block.static()] for r in results]
    measured = np.array(
        [r.measured_us / s.measured_us for r, s in zip(results, baseline, strict=True)]
    )
    predicted = np.array(
        [r.predicted_us / s.predicted_us for r, s in zip(results, baseline, strict=True)]
    )
    agree, clear = (measured < 1) == (predicted < 1), np.abs(measured - 1) > 0.05
    regrets = _regrets(results)
    worst, mean = max(regrets), sum(regrets) / len(regrets)
    noise = 100 * np.median([r.spread for r in results])
    return (
        DYNAMIC_TITLE
        + f"""las_mm's native executor, in place, one thread, smooth masks; r and
r_dilated are measured and given to the model. What the native code reaches is calibrated on
micro-blocks of other shapes, which it fits to {100 * misfit:.1f} %:
peak {gmacs(native):.0f} GMAC/s, {native.kernel_launch:.1f} us a kernel, overlap
{native.overlap:.2f}; the bandwidths are those above.
{len(results)} blocks: every shape, S and r at two input sizes, **all held out**.

Measured / predicted r_l, mean over the shapes; static is the fastest PyTorch block above.

{_ratio_table(results, measured, predicted)}
- Latency: {summary(results)}
- r_l: mean absolute error {np.abs(predicted - measured).mean():.3f}; sign of r_l - 1 right in
  {100 * agree.mean():.0f} % of all blocks, in {100 * agree[clear].mean():.0f} % of the
  {clear.sum()} that are more than 5 % away from 1.
- Regret t(S chosen) / t(best S) at equal r: mean {mean:.3f}, worst {worst:.3f}
  (goal 1.02: {met(worst <= 1.02)}).
- Noise floor: a median round of runs is {noise:.1f} % above the shortest.
"""
    )


def _ratio_table(results, measured, predicted) -> str:
    rates = sorted({r.asked for r in results})
    rows = []
    for key in dict.fromkeys((r.input, r.block.granularity) for r in results):
        cells = []
        for rate in rates:
            chosen = [
                i
                for i, r in enumerate(results)
                if (r.input, r.block.granularity) == key and r.asked == rate
            ]
            cells.append(
                f'{measured[chosen].mean():.2f} / {predicted[chosen].mean():.2f}' if chosen else ''
            )
        rows.append((key[0], f'S = {key[1]}', *cells))
    return markdown_table(('input', 'S', *(f'r = {rate:g}' for rate in rates)), rows)


def _regrets(results) -> list[float]:
    """t(S with the best prediction) / t(best S), for each block shape and rate with a choice."""
    groups: dict = {}
    for r in results:
        key = r.input, r.block.static(), r.asked
        groups.setdefault(key, []).append(r)
    return [
        min(group, key=lambda r: r.predicted_us).measured_us / min(r.measured_us for r in group)
        for group in groups.values()
        if len(group) > 1
    ]
