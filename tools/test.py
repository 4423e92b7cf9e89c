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

from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS

from las_mm.cli import add_common_arguments, build_runner, load_config, run_cli
from las_mm.config_parts import by_names, innermost_datasets, type_name
from las_mm.data.datasets import require_data
from las_mm.executors import check_executor
from las_mm.hooks import LatencyReportHook, OptimizeHook

NMS = dict(type='nms', iou_threshold=0.5)
TTA_MODELS = {  # by default scope, where a config has no tta_model
    'mmdet': dict(type='DetTTAModel', tta_cfg=dict(nms=NMS, max_per_img=100)),
    'mmpretrain': dict(type='AverageClsScoreTTA'),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--devices', help='devices to predict for, such as v100,gtx1080,tx2')
    parser.add_argument('--executor', help='how the blocks run: dense, torch, cpu, triton or auto')
    parser.add_argument(
        '--measure', action='store_true', help="measure the backbone's latency on this machine, too"
    )
    parser.add_argument('--out', help='pickle file for the predictions')
    parser.add_argument('--show', action='store_true', help='show painted predictions in a window')
    parser.add_argument('--show-dir', help='folder in WORK_DIR/TIMESTAMP for painted predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between shown images')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_common_arguments(parser)
    return parser.parse_args()


def is_report(hook: object, scope: str | None) -> bool:
    """Whether an entry of ``custom_hooks`` is a latency report, or one that a user made of it."""
    kind = hook.get('type') if isinstance(hook, dict) else type(hook)
    if isinstance(kind, str):
        with HOOKS.switch_scope_and_registry(scope) as registry:
            kind = registry.get(kind)
    return isinstance(kind, type) and issubclass(kind, LatencyReportHook)


def set_latency_report(cfg: Config, devices: str | None, measure: bool) -> None:
    """Make sure that the config reports latency, once, as asked for.

    Raises:
        ValueError: If flags are to change a hook that is an object already.
    """
    hooks, scope = cfg.get('custom_hooks') or [], cfg.get('default_scope')
    report = next((hook for hook in hooks if is_report(hook, scope)), None)
    if report is None:
        report = ConfigDict(type='LatencyReportHook')
        hooks.append(report)
    if not isinstance(report, dict) and (devices is not None or measure):
        raise ValueError(
            f'--devices, --measure: custom_hooks has a {type(report).__name__} that is '
            'made already; give it as a dict, or set its devices and measure there'
        )
    if devices is not None:
        report['devices'] = [name.strip() for name in devices.split(',') if name.strip()]
    if measure:
        report['measure'] = True
    cfg.custom_hooks = hooks


def set_tta(cfg: Config) -> None:
    """Wrap the model and the pipeline for test-time augmentation, by default with a flip.

    Raises:
        ValueError: If the config says neither how nor of which framework it is.
    """
    scope = cfg.get('default_scope')
    if 'tta_model' not in cfg and scope not in TTA_MODELS:
        allowed = ' and '.join(TTA_MODELS)
        raise ValueError(
            f'--tta: the config has no tta_model, and only configs of {allowed} have a default, '
            f'not those of default_scope {scope!r}; add tta_model and tta_pipeline'
        )
    tta_model = cfg.get('tta_model') or TTA_MODELS[scope]
    for dataset in innermost_datasets(cfg.test_dataloader.dataset):
        dataset['pipeline'] = cfg.get('tta_pipeline') or with_flips(dataset.pipeline)
    if cfg.get('data_preprocessor') and not cfg.model.get('data_preprocessor'):
        cfg.model.data_preprocessor = cfg.data_preprocessor
    cfg.model = ConfigDict(**tta_model, module=cfg.model)


def with_flips(pipeline: list[dict]) -> list[dict]:
    """A test pipeline that shows each image twice, once flipped."""
    *steps, pack = pipeline
    if type_name(pack) == 'PackDetInputs':
        keys = ['img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor']
        pack = dict(pack, meta_keys=[*keys, 'flip', 'flip_direction'])
    flips = [dict(type='RandomFlip', prob=probability) for probability in (1.0, 0.0)]
    return by_names([*steps, dict(type='TestTimeAug', transforms=[flips, [pack]])])


def set_painting(cfg: Config, args: argparse.Namespace) -> None:
    """Paint predictions, with whichever visualisation hook the config has."""
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise ValueError('--show-dir: default_hooks.visualization is missing in the config; add it')
    classifier = type_name(hook) == 'VisualizationHook'
    hook['enable' if classifier else 'draw'] = True
    hook['show'], hook['wait_time'] = args.show, args.wait_time
    if args.show_dir:
        hook['out_dir' if classifier else 'test_out_dir'] = args.show_dir


def add_dump(runner, path: str) -> None:
    """Write predictions to a pickle file, beside the metrics."""
    if not path.endswith(('.pkl', '.pickle')):
        raise ValueError(f'--out: got {path!r}; it must end in .pkl or .pickle')
    if runner.cfg.get('default_scope') == 'mmdet':
        from mmdet.evaluation import DumpDetResults as Dump
    else:
        from mmengine.evaluator import DumpResults as Dump
    runner.test_evaluator.metrics.append(Dump(out_file_path=path))


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    set_latency_report(cfg, args.devices, args.measure)
    if args.executor:
        check_executor(args.executor)
        cfg.model.backbone.executor = args.executor
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        set_painting(cfg, args)
    if args.tta:
        set_tta(cfg)
    require_data(cfg, 'test_dataloader')
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint: no file {args.checkpoint!r}; check the path')
    runner = build_runner(cfg)
    if args.executor not in (None, 'dense'):
        # When other hooks have made their copies of the model, such as averages of its weights.
        runner.register_hook(OptimizeHook(args.executor), priority='VERY_LOW')
    if args.out:
        add_dump(runner, args.out)
    runner.test()


if __name__ == '__main__':
    run_cli(main)
