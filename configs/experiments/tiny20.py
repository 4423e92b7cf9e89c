# ResNets of half width on twenty classes of Tiny-ImageNet (tools/prepare_data.py tiny20), enlarged
# to what the usual stem leaves maps of 32×32 to 4×4 of. The box of each image's object is
# loaded for the test, which reports rates inside and outside of it.
_base_ = './_classification.py'
data_root = 'data/tiny20'
scale = (128, 128)

data_preprocessor = dict(
    num_classes=20, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_label=False),
    dict(type='Resize', scale=scale),
    dict(type='PackInputs', algorithm_keys=['gt_bboxes']),
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=scale, crop_ratio_range=(0.35, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type='PackInputs'),
]
train_set = dict(
    _delete_=True,
    type='BaseDataset',
    data_root=data_root,
    ann_file='train.json',
    pipeline=train_pipeline,
)
val_set = {**train_set, 'ann_file': 'val.json', 'pipeline': test_pipeline}
test_set = {**val_set, 'ann_file': 'test.json'}
train_dataloader = dict(dataset=train_set)
val_dataloader = dict(dataset=val_set)
test_dataloader = dict(dataset=test_set)

model = dict(
    type='ImageClassifier',
    backbone=dict(type='LASResNet', depth=34, base_channels=32, granularity='4-4-2-1'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=20,
        in_channels=256,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
train_cfg = dict(by_epoch=True, max_epochs=6, val_interval=6)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    clip_grad=dict(max_norm=5),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, convert_to_iter_based=True),
]
