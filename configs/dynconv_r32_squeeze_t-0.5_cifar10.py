# DynConv in ResNet-32 on CIFAR-10 by its own recipe (Verelst and Tuytelaars), s = 0.5.
_base_ = './_base_/cifar10.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='LASResNetCIFAR',
        depth=32,
        shortcut='B',
        granularity='1-1-1',
        masker=dict(kind='squeeze'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
custom_hooks = [
    *_base_.dynconv_hooks,
    dict(
        type='SparsityLossHook',
        target=0.5,
        bounded='flops_ratio',
        counted='branches',
        by_epoch=True,
    ),
]
