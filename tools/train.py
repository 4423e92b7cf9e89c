"""Train a detector or classifier from a config.

Examples:
    python tools/train.py configs/faster_rcnn_las_r50_4-4-2-1_demo.py
    python tools/train.py configs/faster_rcnn_las_r101_4-4-7-1.py --amp --resume
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from las_mm.checkpoints.loading import latest_checkpoint
from las_mm.cli import (
    add_common_arguments,
    build_runner,
    check_amp,
    load_config,
    require_loader,
    run_cli,
    set_amp,
)
from las_mm.data.datasets import require_data


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from CHECKPOINT, or from the latest one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate to the batch size, by the config's auto_scale_lr",
    )
    add_common_arguments(parser)
    return parser.parse_args()


def set_resume(cfg: Config, checkpoint: str) -> None:
    """Go on from ``checkpoint``; ``auto`` is the latest one, or the config's start if none.

    Where the config has no seed, the one drawn at the training's start goes on: mmengine restores
    it for the generators, but not for the sampler, which would shuffle otherwise.
    """
    if checkpoint == 'auto':
        checkpoint = latest_checkpoint(cfg.work_dir)
    if checkpoint is None:
        return
    cfg.resume, cfg.load_from = True, str(checkpoint)
    randomness = dict(cfg.get('randomness') or {})
    if randomness.get('seed') is None:
        meta = CheckpointLoader.load_checkpoint(cfg.load_from, map_location='cpu').get('meta', {})
        cfg.randomness = dict(randomness, seed=meta.get('seed'))


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if args.amp:
        set_amp(cfg)
    check_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ValueError(
                '--auto-scale-lr: the config has no auto_scale_lr; add '
                'auto_scale_lr=dict(base_batch_size=16)'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume:
        set_resume(cfg, args.resume)
    require_loader(cfg, 'train_dataloader')
    require_data(cfg, 'train_dataloader', 'val_dataloader')
    build_runner(cfg).train()


if __name__ == '__main__':
    run_cli(main)
