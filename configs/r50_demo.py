# A narrow static ResNet-50 that learns to classify the demo digits on two CPU cores.
_base_ = './_base_/demo_classification.py'
width = 16

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet',
        depth=50,
        base_channels=width,
        stem_channels=width,
        strides=(1, 1, 2, 2),  # as images are small
        out_indices=(3,),
        norm_eval=False,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=32 * width,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)
custom_hooks = [dict(type='SafeCheckpointHook'), dict(type='InvalidLossHook')]
