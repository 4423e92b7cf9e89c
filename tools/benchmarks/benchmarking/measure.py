"""Paired measurements: all variants in turn, round after round, in one process."""

import os
import platform
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch

SHORT = 2e-3  # seconds; shorter runs are repeated within a round


def describe_machine() -> dict:
    """Where the numbers come from."""
    name = platform.processor()
    if os.path.exists('/proc/cpuinfo'):
        with open('/proc/cpuinfo') as lines:
            name = next((ln.split(':')[1].strip() for ln in lines if 'model name' in ln), name)
    return {
        'cpu': name,
        'instructions': torch.backends.cpu.get_cpu_capability(),
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        'load': os.getloadavg()[0],
    }


def interleave(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each variant in each round; the order of the variants is kept.

    Every variant runs twice before, for packing, code generation and caches. Every second round
    goes backwards, so that none always comes after the same other one.
    """
    repeats = {}
    for name, run in variants.items():
        run()
        repeats[name] = max(1, min(5, round(SHORT / _seconds(run, 1))))
    times: dict[str, list[float]] = {name: [] for name in variants}
    for index in range(rounds):
        for name in list(variants)[:: -1 if index % 2 else 1]:
            variants[name]()  # caches as this variant leaves them
            times[name].append(1e3 * _seconds(variants[name], repeats[name]))
    return times


def _seconds(run: Callable[[], object], repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        run()
    return (perf_counter() - start) / repeats


def ratio(times: dict[str, list[float]], name: str, to: list[str]) -> float:
    """Median over rounds of a variant's time to that of the fastest of others, by their medians."""
    best = min(to, key=lambda other: median(times[other]))
    return median(a / b for a, b in zip(times[name], times[best], strict=True))
