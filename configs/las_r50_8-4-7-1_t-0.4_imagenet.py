# LAS-ResNet-50 on ImageNet, S_net = 8-4-7-1, t = 0.4 (Sec. 4.3.1), recipe of Appendix B.2.
_base_ = ['mmpretrain::_base_/models/resnet50.py', './_base_/imagenet.py']
load_from = 'checkpoints/r50_torchvision.pth'  # see r50_imagenet.py

model = dict(backbone=dict(type='LASResNet', depth=50, granularity='8-4-7-1'))
# Appendix B.2: twice the batch of LAS-ResNet-101.
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=0.08))
auto_scale_lr = dict(base_batch_size=1024)
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.4),
    dict(type='DistillationHook', teacher='configs/r50_imagenet.py', checkpoint=load_from),
]
