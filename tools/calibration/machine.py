"""What direct micro-benchmarks say of this machine: peaks, bandwidths, the cost of a start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from latency_predictor import Device

from .timer import Convolution, Timer

DTYPES = {
    'fp32': torch.float32,
    'tf32': torch.float32,
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
}


def best_of(timer: Timer, run: Callable, repeats: int = 20) -> float:
    """Shortest time of a few runs, after a warm-up."""
    run()
    return min(timer.once(run) for _ in range(repeats))


def peak_macs(timer: Timer, precision: str) -> float:
    """Multiply-accumulates per second of the best large convolution or matrix product."""
    dtype, gpu = DTYPES[precision], timer.device == 'cuda'
    if gpu:
        torch.backends.cuda.matmul.allow_tf32 = precision == 'tf32'
        size = 4096
        a, b = (torch.rand(size, size, device='cuda', dtype=dtype) for _ in range(2))
        return size**3 / best_of(timer, lambda: torch.mm(a, b))
    rates = []
    for channels, edge, kernel in ((128, 48, 1), (96, 48, 3)):
        convolution = Convolution((channels, channels), (edge, edge), kernel, dtype=dtype)
        x = convolution.input()
        inside = (1 - 2 / (3 * edge)) if kernel == 3 else 1  # zero padding is not multiplied
        macs = (channels * edge * kernel * inside) ** 2
        rates.append(macs / best_of(timer, lambda c=convolution, x=x: c(x)))
    return max(rates)


def copy_bandwidth(timer: Timer, megabytes: float) -> float:
    """GB/s of reading and writing when two buffers together have this size."""
    source = torch.rand(int(megabytes * 1e6 / 8), device=timer.device)
    target = torch.empty_like(source)
    return 8 * source.numel() / best_of(timer, lambda: target.copy_(source)) / 1e9


def kernel_launch(timer: Timer) -> float:
    """Microseconds of an operator that has next to nothing to do."""
    convolution = Convolution((16, 16), (1, 1), device=timer.device)
    x = convolution.input()
    return best_of(timer, lambda: convolution(x), 200) * 1e6


def cache_megabytes() -> float:
    """Last-level cache of core 0 in MB, from sysfs; 0 where that is not available."""
    sizes = [0.0]
    for path in Path('/sys/devices/system/cpu/cpu0/cache').glob('index*/size'):
        text = path.read_text().strip()
        sizes.append(float(text.rstrip('KM')) * (1e-3 if text.endswith('K') else 1) * 1.024)
    return max(sizes)


def first_guess(name: str, timer: Timer, threads: int, precisions: Iterable[str]) -> Device:
    """The device as the direct micro-benchmarks see it."""
    gpu = timer.device == 'cuda'
    if gpu:
        properties = torch.cuda.get_device_properties(0)
        engines, label = properties.multi_processor_count, properties.name
        frequency = getattr(properties, 'clock_rate', 1e6) / 1e3
        cache = properties.L2_cache_size / 1e6
    else:
        engines, cache = threads, cache_megabytes()
        frequency = float(cpu_property('cpu MHz', '1000'))
        label = f'{engines} core{"s" * (engines > 1)} of {cpu_property("model name", "a CPU")}'
    cycles = engines * frequency * 1e6
    lanes = {p: round(peak_macs(timer, p) / cycles, 3) for p in precisions}
    return Device(
        name,
        label,
        engines,
        frequency,
        lanes,
        offchip_bandwidth=copy_bandwidth(timer, 16 * max(cache, 16)),
        onchip_bandwidth=copy_bandwidth(timer, 0.25 * max(cache, 4)),
        transaction=32 if gpu else 64,
        kernel_launch=kernel_launch(timer),
        onchip_capacity=0.0 if gpu else round(cache, 3),
        padding_skipped=0.0 if gpu else 1.0,
        channels_last=1.0,
        any_tile=1.0,
        halo_reuse=0.0 if gpu else 1.0,
    )


def cpu_property(name: str, default: str) -> str:
    """A field of /proc/cpuinfo."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        return next(line.split(':')[1].strip() for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return default
