# ImageNet and DynConv's recipe: batch 64, lr 0.025, a tenth of it after 30, 60 and 90 epochs.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['las_mm'])

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.025, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = {}
test_cfg = {}
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=3, save_best='auto'))

dynconv_hooks = [
    # The last epoch with noise is the 80th, counted from 0.
    dict(
        type='GumbelTemperatureHook',
        start=5.0,
        steps=[(0.3, 2.5), (0.6, 1.0)],
        by_epoch=True,
        noise_until=0.805,
    ),
    dict(type='LatencyReportHook', devices=['v100', 'gtx1080', 'tx2', 'nano']),
    dict(type='InvalidLossHook'),
    dict(type='SafeCheckpointHook'),
]
