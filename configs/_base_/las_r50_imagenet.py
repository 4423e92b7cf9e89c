# What LAS-ResNet-50 on ImageNet shares (Appendix B.2): twice the batch of LAS-ResNet-101.
_base_ = ['mmpretrain::_base_/models/resnet50.py', './imagenet.py']
load_from = 'checkpoints/r50_torchvision.pth'  # see r50_imagenet.py

model = dict(backbone=dict(type='LASResNet', depth=50))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=0.08))
auto_scale_lr = dict(base_batch_size=1024)
