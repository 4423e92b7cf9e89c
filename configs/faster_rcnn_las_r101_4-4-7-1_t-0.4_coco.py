# LAS-ResNet-101 Faster R-CNN on COCO, S_net = 4-4-7-1, t = 0.4 (Table 2), recipe of Appendix B.3.
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py', './_base_/las_coco.py']

model = dict(backbone=dict(type='LASResNet', granularity='4-4-7-1'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='SparsityLossHook', target=0.4),
    dict(
        type='DistillationHook',
        teacher='mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r101_fpn_1x_coco/'
        'faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth',
    ),
]
