# ImageNet and the recipe of Appendix B.2 at a batch of 512 (8 GPUs x 64): lr 0.01 x batch / 128.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['las_mm'])

# Maskers learn at a tenth of the rate, as in the authors' ResNet training.
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.04, momentum=0.9, weight_decay=5e-5, nesterov=True),
    paramwise_cfg=dict(custom_keys=dict(masker=dict(lr_mult=0.1))),
)
param_scheduler = dict(type='CosineAnnealingLR', T_max=100, convert_to_iter_based=True)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = {}
test_cfg = {}
auto_scale_lr = dict(base_batch_size=512)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=3, save_best='auto'))

custom_hooks = [dict(type='InvalidLossHook'), dict(type='SafeCheckpointHook')]
las_hooks = [
    dict(type='GumbelTemperatureHook', start=5.0, end=0.1),
    dict(type='LatencyReportHook', devices=['v100', 'gtx1080', 'tx2', 'nano']),
    dict(type='InvalidLossHook'),
    dict(type='SafeCheckpointHook'),
]
