# LAS-ResNet-50 on ImageNet, S_net = 56-28-14-7, t = 0.5 (Sec. 4.3.1), recipe of Appendix B.2.
# A patch is the whole feature map: layer skipping (Appendix C.2). It needs inputs of 224 x 224.
_base_ = './_base_/las_r50_imagenet.py'

model = dict(backbone=dict(granularity='56-28-14-7'))
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.5),
    dict(type='DistillationHook', teacher='configs/r50_imagenet.py', checkpoint=_base_.load_from),
]
