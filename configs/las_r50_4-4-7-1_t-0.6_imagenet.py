# LAS-ResNet-50 on ImageNet, S_net = 4-4-7-1, t = 0.6 (Sec. 4.3.1), recipe of Appendix B.2.
_base_ = './_base_/las_r50_imagenet.py'

model = dict(backbone=dict(granularity='4-4-7-1'))
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.6),
    dict(type='DistillationHook', teacher='configs/r50_imagenet.py', checkpoint=_base_.load_from),
]
