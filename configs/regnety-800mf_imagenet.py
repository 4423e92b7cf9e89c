# The static RegNetY-800MF by the LAS recipe: baseline, and teacher of LAS-RegNetY-800MF, for which
#   python tools/convert_checkpoint.py torchvision://regnet_y_800mf \
#       checkpoints/regnety-800mf_torchvision.pth
# gives the paper's weights.
_base_ = './_base_/regnety_imagenet.py'

model = dict(backbone=dict(arch='regnety_800mf'), head=dict(in_channels=784))
