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
import os
import sys
from pathlib import Path

import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from calibration.fitting import micro_misfit, micro_runs, refine
from calibration.machine import DTYPES, first_guess
from calibration.process import restart_with_quiet_allocator
from calibration.timer import Timer

from latency_predictor import Device


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
    unknown = [p for p in arguments.precisions if p not in DTYPES]
    if unknown or arguments.precisions[0] != 'fp32':
        raise ValueError(
            f"--precisions is '{','.join(arguments.precisions)}': start with fp32, "
            f'allowed: {", ".join(DTYPES)}'
        )
    return arguments


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
