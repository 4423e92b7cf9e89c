# LAS-ResNet-50 on ImageNet, S_net = 1-1-1-1, t = 0.5 (Sec. 4.3.1), recipe of Appendix B.2.
_base_ = './_base_/las_r50_imagenet.py'

model = dict(backbone=dict(granularity='1-1-1-1'))
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.5),
    dict(type='DistillationHook', teacher='configs/r50_imagenet.py', checkpoint=_base_.load_from),
]
