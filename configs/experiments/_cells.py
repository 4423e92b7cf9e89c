# Blood cells in microscope images (tools/prepare_data.py cells), and a schedule for two CPU cores.
_base_ = 'mmdet::_base_/default_runtime.py'
custom_imports = dict(imports=['las_mm'])
data_root = 'data/cells/'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))
scale = (320, 240)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_set = dict(
    type='CocoDataset',
    data_root=data_root,
    metainfo=metainfo,
    ann_file='train.json',
    data_prefix=dict(img=''),
    pipeline=train_pipeline,
)
val_set = {**train_set, 'ann_file': 'val.json', 'pipeline': test_pipeline, 'test_mode': True}
test_set = {**val_set, 'ann_file': 'test.json'}
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=train_set,
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=val_set,
)
test_dataloader = {**val_dataloader, 'dataset': test_set}
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'val.json')
test_evaluator = dict(type='CocoMetric', ann_file=data_root + 'test.json')

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=6, val_interval=6)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# Biases of maskers learn fast, as in the demo of detection: the training is short.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'masker.conv.bias': dict(lr_mult=20)}),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, convert_to_iter_based=True),
]
# What detectors have for a backbone: a ResNet-50 of half width whose weights are at hand.
data_preprocessor = dict(
    type='DetDataPreprocessor',
    mean=[104.0, 117.0, 123.0],
    std=[1.0, 1.0, 1.0],
    bgr_to_rgb=False,
    pad_size_divisor=32,
)
backbone = dict(
    type='LASResNet',
    depth=50,
    granularity='4-4-2-1',
    base_channels=32,
    stem_channels=64,
    style='caffe',
    init_cfg=None,
)
neck = dict(in_channels=[128, 256, 512, 1024], out_channels=128)
