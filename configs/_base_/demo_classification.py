# Demo digits as class folders (tools/make_demo_dataset.py --task classification), for mmpretrain.
_base_ = 'mmpretrain::_base_/default_runtime.py'
custom_imports = dict(imports=['las_mm'])
max_epochs = 12
scale = (64, 64)

data_preprocessor = dict(
    num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=25,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset', data_root='data/demo_cls', data_prefix='train', pipeline=pipeline
    ),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root='data/demo_cls', data_prefix='val', pipeline=pipeline
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = {}
test_cfg = {}
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.01), clip_grad=dict(max_norm=10)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=10),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
)
randomness = dict(seed=0)

# Of dynamic networks; a short training holds all blocks near t for longer.
las_hooks = [
    dict(type='GumbelTemperatureHook', start=5.0, end=0.1, noise_until=0.6),
    dict(type='SparsityLossHook', target=0.5, duration=0.66),
    dict(type='LatencyReportHook', devices=['v100', 'gtx1080', 'tx2']),
    dict(type='SafeCheckpointHook'),
    dict(type='InvalidLossHook'),
]
