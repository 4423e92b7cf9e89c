# LAS-ResNet-101 on ImageNet, S_net = 8-4-7-1, t = 0.5 (Sec. 4.3.1), recipe of Appendix B.2.
_base_ = ['mmpretrain::_base_/models/resnet50.py', './_base_/imagenet.py']
load_from = 'checkpoints/r101_torchvision.pth'  # see r101_imagenet.py

model = dict(backbone=dict(type='LASResNet', depth=101, granularity='8-4-7-1'))
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.5),
    dict(type='DistillationHook', teacher='configs/r101_imagenet.py', checkpoint=load_from),
]
