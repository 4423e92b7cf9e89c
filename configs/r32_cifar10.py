# The static ResNet-32 on CIFAR-10 by DynConv's recipe.
_base_ = './_base_/cifar10.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNetCIFAR', depth=32, shortcut='B'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
