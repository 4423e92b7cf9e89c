# LAUD-RegNetY-800MF on ImageNet, channel-2222, t = 0.7, LAUDNet's recipe.
_base_ = './regnety-800mf_imagenet.py'
load_from = 'checkpoints/regnety-800mf_torchvision.pth'  # see regnety-800mf_imagenet.py

model = dict(backbone=dict(type='LASRegNet', granularity=None, channel_groups='2-2-2-2'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(masker=dict(lr_mult=1.0))))
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.7, as_released=True),
    dict(
        type='DistillationHook',
        teacher='configs/regnety-800mf_imagenet.py',
        checkpoint=load_from,
    ),
]
