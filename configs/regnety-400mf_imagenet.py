# The static RegNetY-400MF by the LAS recipe: baseline, and teacher of LAS-RegNetY-400MF, for which
#   python tools/convert_checkpoint.py torchvision://regnet_y_400mf \
#       checkpoints/regnety-400mf_torchvision.pth
# gives the paper's weights.
_base_ = './_base_/regnety_imagenet.py'

model = dict(backbone=dict(arch='regnety_400mf'), head=dict(in_channels=440))
