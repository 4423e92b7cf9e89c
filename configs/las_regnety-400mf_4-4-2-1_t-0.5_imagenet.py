# LAS-RegNetY-400MF on ImageNet, S_net = 4-4-2-1, t = 0.5 (Sec. 4.3.2), recipe of Appendix B.2.
# The paper leaves S_net and the batch open; maskers learn at the backbone's rate, as in the
# authors' training.
_base_ = './regnety-400mf_imagenet.py'
load_from = 'checkpoints/regnety-400mf_torchvision.pth'  # see regnety-400mf_imagenet.py

model = dict(backbone=dict(type='LASRegNet', granularity='4-4-2-1'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(masker=dict(lr_mult=1.0))))
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.5),
    dict(
        type='DistillationHook',
        teacher='configs/regnety-400mf_imagenet.py',
        checkpoint=load_from,
    ),
]
