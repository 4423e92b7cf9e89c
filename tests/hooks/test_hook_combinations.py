"""Our hooks beside those of mmengine, mmdet and mmpretrain, in a training and a test of it."""

import json

import pytest
import torch
from detectors import KINDS, build_model
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from runs import SCHEDULES, runner_of, samples

EMA = dict(type='EMAHook', momentum=0.3)
BESIDE = {
    'nothing': [],
    'exponential average': [dict(EMA, ema_type='ExponentialMovingAverage')],
    'with buffers': [dict(EMA, ema_type='ExponentialMovingAverage', update_buffers=True)],
    'annealed average': [dict(EMA, ema_type='MomentumAnnealingEMA', gamma=3)],
    "YOLOX's average": [dict(EMA, ema_type='mmdet.ExpMomentumEMA', gamma=3)],
    'stochastic average': [dict(type='mmengine.EMAHook', ema_type='StochasticWeightAverage')],
    'tested twice': [dict(type='mmpretrain.EMAHook', momentum=0.3, evaluate_on_origin=True)],
    'original only': [
        dict(
            type='mmpretrain.EMAHook', momentum=0.3, evaluate_on_ema=False, evaluate_on_origin=True
        )
    ],
    'bookkeeping': [
        dict(type='EarlyStoppingHook', monitor='accuracy/top1', patience=1),
        dict(type='SyncBuffersHook'),
        dict(type='EmptyCacheHook', after_iter=True),
        dict(type='mmdet.CheckInvalidLossHook', interval=1),
        dict(type='mmdet.SyncNormHook'),
        dict(type='mmdet.NumClassCheckHook'),
        dict(type='mmpretrain.ClassNumCheckHook'),
        dict(type='InvalidLossHook'),
    ],
    'profiler': [dict(type='ProfilerHook', by_epoch=False, profile_times=2)],
    'precise batch norms': [dict(type='mmpretrain.PreciseBNHook', num_samples=4)],
    'recipes': [
        dict(
            type='mmpretrain.SwitchRecipeHook',
            schedule=[
                dict(
                    action_epoch=2,
                    batch_augments=dict(augments=[dict(type='mmpretrain.Mixup', alpha=0.5)]),
                    loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1),
                )
            ],
        )
    ],
    'warm-up': [
        dict(
            type='mmpretrain.WarmupParamHook',
            param_name='loss_weight',
            module_name='head.loss_module',
            warmup_epochs=1,
        )
    ],
}


class Scores(Hook):
    """Keeps what the model predicts in a test."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.kept += [sample.pred_score for sample in outputs]


class Images(list):
    """Samples with what hooks ask of a data set."""

    metainfo = dict(classes=tuple('abcdefghij'))
    CLASSES = metainfo['classes']


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """A hook that distils from a random static network."""
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.save(build_model(KINDS['classifier']('ResNet')).state_dict(), path)
    config = KINDS['classifier']('ResNet')
    return dict(type='DistillationHook', teacher=config, checkpoint=str(path))


def run_of(folder, hooks, **options):
    """A runner that trains, validates and tests, with all our hooks and these."""
    loader = dict(
        batch_size=4,
        num_workers=0,
        dataset=Images(samples()),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    metric = dict(type='mmpretrain.Accuracy', topk=(1,))
    loops = {f'{loop}_dataloader': loader for loop in ('val', 'test')}
    loops |= {f'{loop}_evaluator': metric for loop in ('val', 'test')}
    report = dict(type='LatencyReportHook', devices=['v100'])
    hooks = [*hooks, *SCHEDULES, report]
    options = dict(custom_hooks=hooks, dataset=Images(samples()), epochs=2, **options)
    return runner_of(folder, **loops, val_cfg={}, test_cfg={}, **options)


@pytest.mark.parametrize('beside', BESIDE)
def test_trainings_and_tests_run_beside_other_hooks(beside, teacher, tmp_path):
    runner = run_of(tmp_path / 'train', [*BESIDE[beside], teacher])
    runner.train()
    logs = runner.message_hub.log_scalars
    for name in ('loss_flops', 'loss_bounds', 'loss_kd', 'temperature'):
        values = torch.tensor(logs[f'train/{name}'].data[0])
        assert len(values) == 8 and values.isfinite().all(), name
    checkpoint = str(tmp_path / 'train' / 'epoch_2.pth')
    scores, reports = [], []
    for executor in (None, 'cpu'):
        hooks = [dict(type='OptimizeHook', executor=executor)] if executor else []
        folder = tmp_path / str(executor)
        testing = run_of(folder, [*BESIDE[beside], *hooks], load_from=checkpoint)
        testing.register_hook(watch := Scores())
        testing.test()
        scores.append(torch.stack(watch.kept))
        reports.append(json.loads((folder / 'latency_report.json').read_text()))
    assert len(scores[0]) == (16 if beside == 'tested twice' else 8)
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)
    assert [report['run']['executor'] for report in reports] == ['dense', 'cpu']
    assert [report['images'] for report in reports] == [8, 8]
    assert reports[0]['flops'] == reports[1]['flops']


def test_gradients_may_be_accumulated(teacher, tmp_path):
    runner = run_of(tmp_path, [teacher], optim_wrapper=dict(accumulative_counts=2))
    runner.train()
    for name in ('loss_flops', 'loss_bounds', 'loss_kd'):
        values = torch.tensor(runner.message_hub.log_scalars[f'train/{name}'].data[0])
        assert len(values) == 8 and values.isfinite().all(), name
