# LAS-ResNet-101 Mask R-CNN on COCO, S_net = 4-4-2-1, t = 0.4 (Table 3), recipe of Appendix B.3.
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py', './_base_/las_coco.py']

model = dict(backbone=dict(type='LASResNet', granularity='4-4-2-1'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='SparsityLossHook', target=0.4),
    dict(
        type='DistillationHook',
        teacher='mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r101_fpn_1x_coco/'
        'mask_rcnn_r101_fpn_1x_coco_20200204-1efe0ed5.pth',
    ),
]
