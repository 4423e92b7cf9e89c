# CIFAR-10 and DynConv's recipe: batch 256, a tenth of the rate after 150, 250 and 350 epochs.
_base_ = ['mmpretrain::_base_/datasets/cifar10_bs16.py', 'mmpretrain::_base_/default_runtime.py']
custom_imports = dict(imports=['las_mm'])

train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 250, 350], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=400, val_interval=1)
val_cfg = {}
test_cfg = {}
auto_scale_lr = dict(base_batch_size=256)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=3, save_best='auto'))

custom_hooks = [dict(type='InvalidLossHook'), dict(type='SafeCheckpointHook')]
dynconv_hooks = [
    dict(type='GumbelTemperatureHook', start=1.0, by_epoch=True, noise_until=0.801),
    dict(type='LatencyReportHook', devices=['tx2', 'nano'], input_size=(32, 32)),
    dict(type='InvalidLossHook'),
    dict(type='SafeCheckpointHook'),
]
