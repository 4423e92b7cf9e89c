# The static MobileNetV2 by the LAS recipe: baseline, and teacher of LAS-MobileNetV2.
# mmpretrain's weights are mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth of its model zoo.
_base_ = './_base_/imagenet.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='MobileNetV2', widen_factor=1.0),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1280,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)
