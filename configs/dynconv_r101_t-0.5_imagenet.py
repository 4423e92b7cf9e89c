# The pixel-wise baseline DynConv in ResNet-101, t = 0.5 (Sec. 4.3.1): S = 1 in every stage, bounds
# on each block's share of FLOPs, no distillation.
_base_ = ['mmpretrain::_base_/models/resnet50.py', './_base_/imagenet.py']
load_from = 'checkpoints/r101_torchvision.pth'  # see r101_imagenet.py

model = dict(backbone=dict(type='LASResNet', depth=101, granularity='1-1-1-1'))
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.5, bounded='flops_ratio'),
]
