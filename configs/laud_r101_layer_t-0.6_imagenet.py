# LAUD-ResNet-101 on ImageNet, layer skipping, t = 0.6, LAUDNet's recipe.
_base_ = ['mmpretrain::_base_/models/resnet50.py', './_base_/laud_imagenet.py']
load_from = 'checkpoints/r101_torchvision.pth'  # see r101_imagenet.py

model = dict(backbone=dict(type='LASResNet', depth=101, granularity='all'))
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.6, as_released=True),
    dict(type='DistillationHook', teacher='configs/r101_imagenet.py', checkpoint=load_from),
]
