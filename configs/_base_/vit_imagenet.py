# ImageNet and the recipe of AdaViT's training code, at a batch of 512 (8 GPUs x 64).
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64_t2t_224.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['las_mm'])

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0)),
    ),
)
# Up from 1e-6, down to 1e-5, where the last ten epochs stay.
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-3, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=290, eta_min=1e-5, begin=10, end=300),
]
train_cfg = dict(by_epoch=True, max_epochs=310, val_interval=1)
val_cfg = {}
test_cfg = {}
auto_scale_lr = dict(base_batch_size=512)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=3, save_best='auto'))

custom_hooks = [
    dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL'),
    dict(type='InvalidLossHook'),
    dict(type='SafeCheckpointHook'),
]
vit_hooks = [*custom_hooks, dict(type='LatencyReportHook', devices=['v100', 'rtx3060', 'tx2'])]
# AdaViT's loss; its temperature stays.
ada_hooks = [
    *vit_hooks,
    dict(type='GumbelTemperatureHook', start=5.0),
    dict(type='UsageLossHook', tokens=0.5, heads=0.5, blocks=0.5),
]
