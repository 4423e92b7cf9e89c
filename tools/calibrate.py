"""Measure this machine and write it as a device file for the latency predictor.

    python tools/calibrate.py --device cpu --name mycpu --output mycpu.yaml
    python -m latency_predictor network --device mycpu.yaml

Direct micro-benchmarks give peak multiply-accumulates per precision, the bandwidths of off-chip and
on-chip memory and the cost of starting a kernel. A last step refines them so that the model's own
predictions fit a set of micro-convolutions, none of which has the shape of one in a ResNet or
RegNet: what convolutions reach is less than what a copy does.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from calibration.timer import Convolution, Timer, restart_with_quiet_allocator

from latency_predictor import Device, LayerSpec
from latency_predictor import operators as ops
from latency_predictor.block import layer_operator
from latency_predictor.schedule import schedule

_DTYPES = {
    'fp32': torch.float32,
    'tf32': torch.float32,
    'fp16': torch.float16,
    'bf16': torch.bfloat16,
}

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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--name', default='mine', help='name of the device in the file')
    parser.add_argument('--threads', type=int, default=1, help='CPU cores to use (default: 1)')
    parser.add_argument(
        '--seconds', type=float, default=30.0, help='time for the micro-convolutions (default: 30)'
    )
    parser.add_argument(
        '--precisions',
        default=None,
        help='comma-separated; default: fp32,bf16 on a CPU, all on a GPU',
    )
    parser.add_argument('--output', required=True, help='.yaml file to write')
    arguments = parser.parse_args()
    if arguments.device == 'cuda' and not torch.cuda.is_available():
        raise ValueError("--device is 'cuda': this machine or this PyTorch has no CUDA device")
    if not 1 <= arguments.threads <= (os.cpu_count() or 1):
        raise ValueError(f'--threads is {arguments.threads}: allowed is 1 to {os.cpu_count()}')
    if Path(arguments.output).suffix not in ('.yaml', '.yml'):
        raise ValueError(f"--output is '{arguments.output}': it must end in .yaml")
    if not Path(arguments.output).resolve().parent.is_dir():
        raise FileNotFoundError(f"folder of --output '{arguments.output}' does not exist")
    default = 'fp32,bf16' if arguments.device == 'cpu' else 'fp32,tf32,fp16,bf16'
    arguments.precisions = (arguments.precisions or default).split(',')
    unknown = [p for p in arguments.precisions if p not in _DTYPES]
    if unknown or arguments.precisions[0] != 'fp32':
        raise ValueError(
            f"--precisions is '{','.join(arguments.precisions)}': start with fp32, "
            f'allowed: {", ".join(_DTYPES)}'
        )
    return arguments


def best_of(timer: Timer, run, repeats: int = 20) -> float:
    """Shortest time of a few runs, after a warm-up."""
    run()
    return min(timer.once(run) for _ in range(repeats))


def peak_macs(timer: Timer, precision: str) -> float:
    """Multiply-accumulates per second of the best large convolution or matrix product."""
    dtype, gpu = _DTYPES[precision], timer.device == 'cuda'
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


def first_guess(name: str, timer: Timer, threads: int, precisions) -> Device:
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
    keys=('offchip_bandwidth', 'onchip_bandwidth', 'kernel_launch'),
) -> tuple[Device, float]:
    """Coordinate search over ``keys``, the fp32 peak and the overlap; a few hundred trials.

    Returns the device and its ``misfit``.
    """
    best, error = device, misfit(device)

    def variants(step):
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


def entry_of(device: Device) -> dict:
    """Device-file entry with rounded numbers and where each is from."""
    fitted = 'calibrate.py: micro-benchmarks, refined on micro-convolutions'
    refined = ('offchip_bandwidth', 'onchip_bandwidth', 'kernel_launch', 'overlap', 'lanes.fp32')
    sources = dict.fromkeys(refined, fitted)
    sources.update(
        {
            f'lanes.{p}': 'calibrate.py: best large convolution or matrix product'
            for p in device.lanes
            if p != 'fp32'
        }
    )
    sources.update(
        processing_engines='calibrate.py: cores used or multiprocessors',
        frequency="calibrate.py: the system's nominal clock; only its product with lanes matters",
        halo_reuse='neighbouring patches share the caches of a core',
        any_tile='oneDNN and cuDNN take maps of any size',
        transaction='cache line or memory sector',
        pipeline_depth='assumed: 4 cycles per result',
        onchip_capacity='last-level cache (sysfs)',
        padding_skipped='oneDNN skips zero padding',
        channels_last='layout of the measured convolutions',
    )
    rounded = {
        key: round(getattr(device, key), 3)
        for key in ('offchip_bandwidth', 'onchip_bandwidth', 'kernel_launch', 'overlap')
    }
    lanes = {p: round(v, 2) for p, v in device.lanes.items()}
    return dataclasses.replace(device, sources=sources, lanes=lanes, **rounded).to_dict()


def main() -> int:
    try:
        arguments = parse_arguments()
    except (ValueError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    restart_with_quiet_allocator(arguments.threads)
    print(f'measuring for about {arguments.seconds + 15:.0f} s')
    timer = Timer(arguments.device, arguments.threads)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # the micro-convolutions stand for fp32
    with torch.inference_mode():
        guess = first_guess(arguments.name, timer, arguments.threads, arguments.precisions)
        measured, _ = timer.interleaved(micro_runs(arguments.device), arguments.seconds)
    device, error = refine(guess, micro_misfit(measured))
    print(f'micro-convolutions: mean error {100 * error:.1f} % (they were fitted)')
    text = yaml.safe_dump({device.name: entry_of(device)}, sort_keys=False)
    output = Path(arguments.output)
    temporary = output.with_name(output.name + '.tmp')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, output)
    print(text + f'wrote {output}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
