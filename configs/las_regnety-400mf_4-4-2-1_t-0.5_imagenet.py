# LAS-RegNetY-400MF on ImageNet, S_net = 4-4-2-1, t = 0.5 (Sec. 4.3.2), recipe of Appendix B.2.
# The paper leaves S_net and the batch open; maskers learn at the backbone's rate, as in the
# authors' training.
_base_ = './_base_/imagenet.py'
load_from = 'checkpoints/regnety-400mf_torchvision.pth'  # see regnety-400mf_imagenet.py

model = dict(
    type='ImageClassifier',
    backbone=dict(type='LASRegNet', arch='regnety_400mf', granularity='4-4-2-1'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=440,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(
    optimizer=dict(lr=0.08), paramwise_cfg=dict(custom_keys=dict(masker=dict(lr_mult=1.0)))
)
auto_scale_lr = dict(base_batch_size=1024)
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.5),
    dict(
        type='DistillationHook',
        teacher='configs/regnety-400mf_imagenet.py',
        checkpoint=load_from,
    ),
]
