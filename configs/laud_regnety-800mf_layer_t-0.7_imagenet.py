# LAUD-RegNetY-800MF on ImageNet, layer skipping, t = 0.7, LAUDNet's recipe.
_base_ = './_base_/laud_imagenet.py'
load_from = 'checkpoints/regnety-800mf_torchvision.pth'  # see regnety-800mf_imagenet.py

model = dict(
    type='ImageClassifier',
    backbone=dict(type='LASRegNet', arch='regnety_800mf', granularity='all'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=784,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.7, as_released=True),
    dict(
        type='DistillationHook',
        teacher='configs/regnety-800mf_imagenet.py',
        checkpoint=load_from,
    ),
]
