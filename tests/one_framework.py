"""Build, train, test and report with only one of mmdet and mmpretrain; prints what came of it.

Usage: one_framework.py mmdet|mmpretrain DATA WORK_DIR, where the other one is not importable
"""

import importlib
import json
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import las_mm  # noqa: F401
from las_mm.config.frameworks import require_frameworks
from las_mm.inference import optimize_for_inference

FRAMEWORK, DATA, WORK_DIR = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
ABSENT = {'mmdet': 'mmpretrain', 'mmpretrain': 'mmdet'}[FRAMEWORK]
CONFIGS = {'mmdet': 'faster_rcnn_las_r50_4-4-2-1_demo.py', 'mmpretrain': 'las_r50_4-4-2-1_demo.py'}
SMALL = dict(depth=18, base_channels=8, stem_channels=8, granularity='2-2-1-1')


def tiny_config() -> Config:
    """The framework's demo config with a ResNet-18, for one iteration over all images."""
    cfg = Config.fromfile(Path('configs', CONFIGS[FRAMEWORK]))
    cfg.model.backbone.update(SMALL)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].update(
            batch_size=32, num_workers=0, persistent_workers=False, drop_last=False
        )
        cfg[f'{split}_dataloader'].dataset.data_root = str(DATA)
    if FRAMEWORK == 'mmdet':
        cfg.model.neck.in_channels = [8, 16, 32, 64]
        annotations = str(DATA / 'annotations' / 'instances_val.json')
        cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = annotations
    else:
        cfg.model.head.in_channels = 64
    cfg.update(work_dir=str(WORK_DIR), load_from=None)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    return cfg


def add_teacher(cfg: Config) -> None:
    """Distil from the static network, of random weights."""
    static = cfg.model.copy()
    dynamic = ('granularity', 'masker')
    backbone = {key: value for key, value in static.backbone.items() if key not in dynamic}
    static.backbone = dict(backbone, type='ResNet')
    registry = importlib.import_module(f'{FRAMEWORK}.registry').MODELS
    path = WORK_DIR / 'static.pth'
    torch.save(registry.build(static).state_dict(), path)
    hooks = [hook for hook in cfg.custom_hooks if hook.type != 'DistillationHook']
    hooks.append(dict(type='DistillationHook', teacher=dict(static), checkpoint=str(path)))
    cfg.custom_hooks = hooks


def build_backbones() -> dict[str, int]:
    """The number of dynamic blocks of each backbone that the framework has."""
    registry = importlib.import_module(f'{FRAMEWORK}.registry').MODELS
    configs = [
        dict(type='LASResNet', depth=18, granularity='4-4-2-1'),
        dict(type='LASRegNet', arch='regnetx_400mf', granularity='4-4-2-1'),
        dict(type='LASDenseNet', arch='121', granularity='4-4-2-1'),
    ]
    found = {}
    for config in configs:
        if config['type'] in registry:
            backbone = optimize_for_inference(registry.build(config).eval())
            with torch.no_grad():
                backbone(torch.zeros(1, 3, 64, 64))
            found[config['type']] = len(backbone.traces)
    return found


def refusal(cfg: Config) -> str:
    """What is said of a config with a part of the absent framework."""
    try:
        require_frameworks(Config(dict(cfg, model=dict(backbone=dict(type=f'{ABSENT}.LASResNet')))))
    except ValueError as error:
        return str(error)
    return ''


def main() -> None:
    init_default_scope(FRAMEWORK)
    WORK_DIR.mkdir(parents=True)
    cfg = tiny_config()
    result = {'blocks': build_backbones(), 'refused': refusal(cfg)}
    require_frameworks(cfg)
    add_teacher(cfg)
    runner = Runner.from_cfg(cfg)
    runner.train()
    result['iterations'], result['metrics'] = runner.iter, runner.test()
    report = json.loads((WORK_DIR / 'latency_report.json').read_text())
    result['devices'] = [row['device'] for row in report['devices']]
    result['versions'] = report['run']['versions']
    scalars = runner.message_hub.log_scalars
    result['losses'] = sorted(n.partition('/')[2] for n in scalars if n.startswith('train/loss_'))
    print(json.dumps(result, default=float))


main()
