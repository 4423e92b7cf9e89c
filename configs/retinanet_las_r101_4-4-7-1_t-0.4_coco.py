# LAS-ResNet-101 RetinaNet on COCO, S_net = 4-4-7-1, t = 0.4 (Table 2), recipe of Appendix B.3.
_base_ = ['mmdet::retinanet/retinanet_r101_fpn_1x_coco.py', './_base_/las_coco.py']

model = dict(backbone=dict(type='LASResNet', granularity='4-4-7-1'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.2))))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='SparsityLossHook', target=0.4),
    dict(
        type='DistillationHook',
        teacher='mmdet::retinanet/retinanet_r101_fpn_1x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_1x_coco/'
        'retinanet_r101_fpn_1x_coco_20200130-7a93545f.pth',
    ),
]
