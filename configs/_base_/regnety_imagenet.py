# What RegNetY on ImageNet shares, static and LAS. The paper leaves the batch open: here 8 x 128.
_base_ = './imagenet.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='SERegNet'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=0.08))
auto_scale_lr = dict(base_batch_size=1024)
