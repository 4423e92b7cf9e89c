"""Hooks that change the model, its teacher or the pipeline in the midst of a training of ours."""

import pytest
import torch
from detectors import CHANNELS, backbone, scope, two_stage
from mmdet.datasets import CocoDataset, MultiImageMixDataset
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from networks import undecided
from runs import runner_of, samples
from self_supervised import self_supervised

from las_mm.models.backbone import dynamic_backbones

OURS = [
    dict(type='GumbelTemperatureHook', start=5.0, end=0.1),
    dict(type='SparsityLossHook', target=0.5),
    dict(type='SafeCheckpointHook'),
]
LOAD = [dict(type='LoadImageFromFile'), dict(type='mmdet.LoadAnnotations', with_bbox=True)]
META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'homography_matrix')
PACK = dict(type='mmdet.PackDetInputs', meta_keys=META)


class Watch(Hook):
    """Keeps what a function says of the runner in every iteration, before schedules go on."""

    priority = 'BELOW_NORMAL'

    def __init__(self, look) -> None:
        self.look, self.kept = look, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.kept.append(self.look(runner, data_batch))


def resized(size: int) -> dict:
    return dict(type='mmdet.Resize', scale=(size, size), keep_ratio=False)


def coco(folder, pipeline) -> CocoDataset:
    """The demo's training images, without those that hold nothing."""
    return CocoDataset(
        data_root=str(folder),
        metainfo=dict(classes=tuple('0123456789')),
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        pipeline=pipeline,
        serialize_data=False,
    )


def check_trained(runner, steps: int) -> None:
    """Every loss of ours was added in every step, and the maskers moved."""
    logs = runner.message_hub.log_scalars
    for name in ('loss_flops', 'loss_bounds', 'temperature'):
        values = torch.tensor(logs[f'train/{name}'].data[0])
        assert len(values) == steps and values.isfinite().all(), name


def view_samples(count: int = 8) -> list[dict]:
    """Images with a second view of each."""
    return [
        dict(inputs=[one['inputs'], one['inputs'].flip(2)], data_samples=DataSample())
        for one in samples(count)
    ]


SELF = {
    'DenseCL': dict(type='mmpretrain.DenseCLHook', start_iters=3),
    'SimSiam': dict(
        type='mmpretrain.SimSiamHook', fix_pred_lr=True, lr=0.05, adjust_by_epoch=False
    ),
    'SwAV': dict(
        type='mmpretrain.SwAVHook',
        batch_size=2,
        epoch_queue_starts=1,
        feat_dim=8,
        queue_length=4,
        frozen_layers_cfg=dict(prototypes=2),
    ),
}


STATES = {  # what the hook changes, and its values in eight iterations
    'DenseCL': (lambda runner, _: runner.model.loss_lambda, [0.0] * 3 + [0.5] * 5),
    'SimSiam': (lambda runner, _: fixed_rate(runner), [0.05] * 8),
    'SwAV': (lambda runner, _: prototypes(runner).requires_grad, [False] * 2 + [True] * 6),
}


def fixed_rate(runner) -> float:
    """The learning rate of the predictor at this step, before the schedule goes on."""
    groups = runner.optim_wrapper.optimizer.param_groups
    return next(group['lr'] for group in groups if group.get('fix_lr'))


def prototypes(runner) -> torch.nn.Parameter:
    return runner.model.head.loss_module.prototypes.weight


@pytest.mark.parametrize('name', SELF)
def test_self_supervised_trainings_with_their_hooks(name, tmp_path):
    torch.manual_seed(0)
    preprocessor = dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[127.0] * 3, std=[64.0] * 3)
    model = self_supervised(name, data_preprocessor=preprocessor)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    look, expected = STATES[name]
    watch = Watch(look)
    runner = runner_of(
        tmp_path,
        watch,
        model=model,
        dataset=view_samples(),
        epochs=2,
        custom_hooks=[SELF[name], *OURS],
        custom_keys=dict(predictor=dict(fix_lr=True)),
    )
    runner.train()
    check_trained(runner, 8)
    assert watch.kept == expected
    moved = [key for key, value in model.state_dict().items() if not value.equal(before[key])]
    assert any('masker' in key for key in moved if key.startswith('backbone.'))


@pytest.mark.parametrize('skip_buffer', [True, False])
def test_a_mean_teacher_follows_the_student(skip_buffer, demo_coco, tmp_path):
    torch.manual_seed(0)
    branches = {name: [PACK] for name in ('sup', 'unsup_teacher', 'unsup_student')}
    several = dict(type='mmdet.MultiBranch', branch_field=[*branches], **branches)
    inner = dict(type='DetDataPreprocessor', pad_size_divisor=32)
    train = dict(freeze_teacher=True, sup_weight=1.0, unsup_weight=4.0, jitter_times=2)
    train |= dict(pseudo_label_initial_score_thr=0.0, rpn_pseudo_thr=0.0, cls_pseudo_thr=0.0)
    train |= dict(reg_pseudo_thr=1.0, jitter_scale=0.06, min_pseudo_bbox_wh=(1e-2, 1e-2))
    config = ConfigDict(
        type='SoftTeacher',
        detector=two_stage(),
        data_preprocessor=dict(type='MultiBranchDataPreprocessor', data_preprocessor=inner),
        semi_train_cfg=train,
        semi_test_cfg=dict(predict_on='teacher'),
    )
    with scope('two-stage'):
        model = undecided(MODELS.build(config)).train()
        flip = dict(type='mmdet.RandomFlip', prob=0.5)
        dataset = coco(demo_coco, [*LOAD, resized(64), flip, several])
    name = 'backbone.layer1.0.masker.conv.bias'
    pairs = Watch(
        lambda runner, _: [
            dict(part.named_parameters())[name].detach().clone()
            for part in (runner.model.student, runner.model.teacher)
        ]
    )
    mean = dict(type='mmdet.MeanTeacherHook', momentum=0.5, skip_buffer=skip_buffer)
    runner = runner_of(
        tmp_path,
        pairs,
        kind='two-stage',
        model=model,
        dataset=dataset,
        batch_size=4,
        epochs=2,
        custom_hooks=[mean, *OURS],
    )
    runner.train()
    check_trained(runner, 4)
    assert len(dynamic_backbones(model)) == 2
    for (_, before), (student, teacher) in zip(pairs.kept, pairs.kept[1:], strict=False):
        torch.testing.assert_close(teacher, (student + before) / 2)
    assert not pairs.kept[0][0].equal(pairs.kept[-1][0])


def test_the_pipeline_may_change(demo_coco, tmp_path):
    with scope('two-stage'):
        dataset = coco(demo_coco, [*LOAD, resized(64), PACK])
    switch = dict(
        type='mmdet.PipelineSwitchHook',
        switch_epoch=1,
        switch_pipeline=[*LOAD, resized(96), PACK],
    )
    sizes = Watch(lambda runner, batch: [*batch['inputs'][0].shape])
    runner = runner_of(
        tmp_path,
        sizes,
        kind='two-stage',
        dataset=dataset,
        batch_size=4,
        epochs=2,
        custom_hooks=[switch, *OURS],
        loader=dict(num_workers=1, persistent_workers=True),
    )
    runner.train()
    check_trained(runner, 4)
    assert sizes.kept == [[3, 64, 64]] * 2 + [[3, 96, 96]] * 2


def yolox() -> ConfigDict:
    """mmdet's YOLOX on one of our backbones, narrow."""
    return ConfigDict(
        type='YOLOX',
        backbone=dict(backbone(), out_indices=(1, 2, 3)),
        neck=dict(type='YOLOXPAFPN', in_channels=CHANNELS[1:], out_channels=16, num_csp_blocks=1),
        bbox_head=dict(
            type='YOLOXHead', num_classes=10, in_channels=16, feat_channels=16, stacked_convs=1
        ),
        train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
        test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)),
        data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    )


def test_yolox_switches_its_mode(demo_coco, tmp_path):
    torch.manual_seed(0)
    with scope('two-stage'):
        model = MODELS.build(yolox()).train()
        mosaic = [
            dict(type='mmdet.Mosaic', img_scale=(64, 64), pad_val=114.0),
            dict(type='mmdet.RandomAffine', border=(-32, -32)),
            dict(type='mmdet.MixUp', img_scale=(64, 64), pad_val=114.0),
        ]
        dataset = MultiImageMixDataset(coco(demo_coco, LOAD), [*mosaic, resized(64), PACK])
    switch = dict(type='mmdet.YOLOXModeSwitchHook', num_last_epochs=1)
    modes = Watch(lambda runner, _: runner.model.bbox_head.use_l1)
    runner = runner_of(
        tmp_path,
        modes,
        kind='two-stage',
        model=model,
        dataset=dataset,
        batch_size=4,
        epochs=3,
        custom_hooks=[switch, *OURS],
    )
    runner.train()
    check_trained(runner, 6)
    assert modes.kept == [False] * 2 + [True] * 4
