"""Test a detector or classifier and report what its dynamic backbone computed.

The latency report goes to the console and to latency_report.json in the work dir.

Examples:
    python tools/test.py configs/faster_rcnn_las_r50_4-4-2-1_demo.py work_dirs/…/epoch_12.pth
    python tools/test.py CONFIG CHECKPOINT --devices v100,tx2,my_device.yaml --show-dir painted
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.runner import Runner

from las_mm.cli import add_common_arguments, build_runner, load_config, require_loader, run_cli
from las_mm.config.frameworks import framework_of
from las_mm.config.testing import set_latency_report, set_painting, set_tta
from las_mm.data.datasets import require_data
from las_mm.executors import check_executor
from las_mm.hooks import OptimizeHook
from las_mm.hooks.model_loss import unwrapped
from las_mm.inference import check_precision
from las_mm.models.backbone import dynamic_backbones


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--devices', help='devices to predict for, such as v100,gtx1080,tx2')
    parser.add_argument('--executor', help='how the blocks run: dense, torch, cpu, triton or auto')
    parser.add_argument(
        '--precision',
        help='in which blocks compute: fp32, bf16, auto, or int8 with a checkpoint of '
        'tools/quantize.py; all but fp32 imply --executor auto',
    )
    parser.add_argument(
        '--measure', action='store_true', help="measure the backbone's latency on this machine, too"
    )
    parser.add_argument('--out', help='pickle file for the predictions')
    parser.add_argument('--show', action='store_true', help='show painted predictions in a window')
    parser.add_argument(
        '--show-dir',
        help='folder for painted predictions, in WORK_DIR (classifier) or WORK_DIR/TIMESTAMP',
    )
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between shown images')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_common_arguments(parser)
    return parser.parse_args()


def add_dump(runner: Runner, path: str) -> None:
    """Write predictions to a pickle file, beside the metrics."""
    if not path.endswith(('.pkl', '.pickle')):
        raise ValueError(f'--out: got {path!r}; it must end in .pkl or .pickle')
    if framework_of(runner.cfg) == 'mmdet':
        from mmdet.evaluation import DumpDetResults as Dump
    else:
        from mmengine.evaluator import DumpResults as Dump
    runner.test_evaluator.metrics.append(Dump(out_file_path=path))


def set_executor(runner: Runner, name: str, precision: str) -> None:
    """Let the dynamic backbones run by an executor, and what stands around them fast, too."""
    if name == 'dense':
        for backbone in dynamic_backbones(unwrapped(runner.model)).values():
            backbone.executor = name
    else:
        # When other hooks have made their copies of the model, such as averages of its weights.
        runner.register_hook(OptimizeHook(name, precision), priority='VERY_LOW')


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    require_loader(cfg, 'test_dataloader')
    set_latency_report(cfg, args.devices, args.measure)
    precision = check_precision(args.precision or 'fp32')
    executor = args.executor or ('auto' if precision != 'fp32' else None)
    if executor:
        check_executor(executor)
    if executor == 'dense' and precision in ('bf16', 'int8'):
        raise ValueError(
            f'--precision: got {precision!r} with --executor dense, which has fp32 alone'
        )
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        set_painting(cfg, args.show, args.show_dir, args.wait_time)
    if args.tta:
        set_tta(cfg)
    require_data(cfg, 'test_dataloader')
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint: no file {args.checkpoint!r}; check the path')
    runner = build_runner(cfg)
    if executor:
        set_executor(runner, executor, precision)
    if args.out:
        add_dump(runner, args.out)
    runner.test()


if __name__ == '__main__':
    run_cli(main)
