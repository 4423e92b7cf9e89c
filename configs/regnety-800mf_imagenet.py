# The static RegNetY-800MF by the LAS recipe: baseline, and teacher of LAS-RegNetY-800MF, for which
#   python tools/convert_checkpoint.py torchvision://regnet_y_800mf \
#       checkpoints/regnety-800mf_torchvision.pth
# gives the paper's weights. The paper leaves the batch open; here it is 8 x 128.
_base_ = './_base_/imagenet.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='SERegNet', arch='regnety_800mf'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=784,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=0.08))
auto_scale_lr = dict(base_batch_size=1024)
