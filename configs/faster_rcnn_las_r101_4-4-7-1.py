# LAS-ResNet-101 Faster R-CNN on COCO, S_net = 4-4-7-1, t = 0.5 (Table 2), recipe of Appendix B.3.
#
# The paper starts from an ImageNet-trained LAS-ResNet-101; give such a checkpoint with
#   --cfg-options model.backbone.init_cfg.checkpoint=PATH
# The static weights below serve as well: then the maskers start with every patch on.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'
custom_imports = dict(imports=['las_mm'])

model = dict(
    backbone=dict(
        type='LASResNet',
        granularity='4-4-7-1',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
custom_hooks = [
    dict(type='GumbelTemperatureHook', start=0.1),
    dict(type='SparsityLossHook', target=0.5),
    dict(
        type='DistillationHook',
        teacher='mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/'
        'faster_rcnn_r101_fpn_1x_coco/faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth',
    ),
    dict(type='LatencyReportHook', devices=['v100', 'gtx1080', 'tx2'], input_size=(800, 1344)),
    dict(type='SafeCheckpointHook'),
]
