# The static ResNet-101 by the LAS recipe: baseline, and teacher of LAS-ResNet-101, for which
#   python tools/convert_checkpoint.py torchvision://resnet101 checkpoints/r101_torchvision.pth
# gives the paper's weights.
_base_ = ['mmpretrain::_base_/models/resnet50.py', './_base_/imagenet.py']

model = dict(backbone=dict(depth=101))
