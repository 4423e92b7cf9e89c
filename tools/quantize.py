"""Calibrate a detector or classifier for inference in 8 bits on a CPU.

It runs the network on some images of its config and writes a checkpoint that also has the ranges of
the activations; tools/test.py takes it with --precision int8, and without as it takes any other.

Examples:
    python tools/quantize.py CONFIG work_dirs/…/epoch_12.pth --images 64
    python tools/test.py CONFIG work_dirs/…/epoch_12_int8.pth --precision int8
"""

import argparse
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from mmengine.runner import Runner

import las_mm
from las_mm.cli import add_common_arguments, build_runner, load_config, require_loader, run_cli
from las_mm.data.datasets import require_data
from las_mm.executors.cpu.int8 import RANGES
from las_mm.files import write_whole
from las_mm.hooks.model_loss import unwrapped


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path of the checkpoint')
    parser.add_argument('--images', type=int, default=64, help='images to calibrate on')
    parser.add_argument('--out', type=Path, help='file to write, by default CHECKPOINT_int8.pth')
    add_common_arguments(parser)
    return parser.parse_args()


def take(loader: Iterable[Any], images: int) -> Iterator[Any]:
    """The first batches of a loader, together at least so many images."""
    for batch in loader:
        if images <= 0:
            return
        images -= len(batch['inputs'])
        yield batch


def main() -> None:
    args = parse_args()
    if args.images < 1:
        raise ValueError(f'--images: got {args.images}; give at least 1')
    if args.out and args.out.suffix != '.pth':
        raise ValueError(f"--out: got '{args.out}'; it must end in .pth")
    path = Path(args.checkpoint)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint: no file {args.checkpoint!r}; check the path')
    cfg = load_config(args)
    name = 'val_dataloader' if cfg.get('val_dataloader') else 'test_dataloader'
    require_loader(cfg, name)
    require_data(cfg, name)
    runner = build_runner(cfg)
    meta = runner.load_checkpoint(args.checkpoint).get('meta', {})
    model = unwrapped(runner.model)
    las_mm.quantize(model, take(Runner.build_dataloader(cfg[name]), args.images))
    state = model.state_dict()
    content = io.BytesIO()
    torch.save({'meta': meta, 'state_dict': state}, content)
    out = args.out or path.with_name(f'{path.stem}_int8.pth')
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, content.getvalue())
    count = sum(key.endswith(RANGES) for key in state)
    print(f'{count} blocks calibrated, written to {out}')


if __name__ == '__main__':
    run_cli(main)
