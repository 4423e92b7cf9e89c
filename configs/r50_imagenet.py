# The static ResNet-50 by the LAS recipe: baseline, and teacher of LAS-ResNet-50, for which
#   python tools/convert_checkpoint.py torchvision://resnet50 checkpoints/r50_torchvision.pth
# gives the paper's weights.
_base_ = ['mmpretrain::_base_/models/resnet50.py', './_base_/imagenet.py']

model = dict(backbone=dict(depth=50))
# Appendix B.2: twice the batch of LAS-ResNet-101.
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=0.08))
auto_scale_lr = dict(base_batch_size=1024)
