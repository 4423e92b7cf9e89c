# The small ViT of vit_demo.py that skips tokens, heads and blocks, trained further from the static
# one to half of its FLOPs.
_base_ = './vit_demo.py'
max_epochs = 10
load_from = 'work_dirs/vit_demo/epoch_24.pth'  # python tools/train.py configs/vit_demo.py

model = dict(backbone=dict(type='LASVisionTransformer', policies=['tokens', 'heads', 'blocks']))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
# So that a short training finds what to compute.
optim_wrapper = dict(
    optimizer=dict(lr=5e-4), paramwise_cfg=dict(custom_keys=dict(_masker=dict(lr_mult=10)))
)
custom_hooks = [
    dict(type='GumbelTemperatureHook', start=5.0, end=0.1, noise_until=0.6),
    dict(type='SparsityLossHook', target=0.5, duration=0.66, bounded='flops_ratio'),
    dict(type='LatencyReportHook', devices=['v100', 'gtx1080', 'tx2']),
    dict(type='SafeCheckpointHook'),
    dict(type='InvalidLossHook'),
]
