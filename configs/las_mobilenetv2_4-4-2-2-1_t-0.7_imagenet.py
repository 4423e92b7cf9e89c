# LAS-MobileNetV2 on ImageNet, S_net = 4-4-2-2-1 (for layer2 to layer6), t = 0.7, by the
# recipe of Appendix B.2. The paper has no MobileNetV2.
_base_ = './mobilenetv2_imagenet.py'
load_from = (
    'https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/'
    'mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth'
)

model = dict(backbone=dict(type='LASMobileNetV2', granularity='4-4-2-2-1'))
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.7),
    dict(type='DistillationHook', teacher='configs/mobilenetv2_imagenet.py', checkpoint=load_from),
]
