# DynConv in ResNet-101 with its own masker, loss and recipe (Verelst and Tuytelaars), s = 0.3:
# batch 64, noise off after epoch 80.
_base_ = ['mmpretrain::_base_/models/resnet50.py', './_base_/dynconv_imagenet.py']
load_from = 'checkpoints/r101_torchvision.pth'  # see r101_imagenet.py

model = dict(
    backbone=dict(type='LASResNet', depth=101, granularity='1-1-1-1', masker=dict(kind='squeeze'))
)
custom_hooks = [
    *_base_.dynconv_hooks,
    dict(
        type='SparsityLossHook',
        target=0.3,
        bounded='flops_ratio',
        counted='branches',
        by_epoch=True,
    ),
]
