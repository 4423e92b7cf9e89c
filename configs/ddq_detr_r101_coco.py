# Static ResNet-101 DDQ-DETR, 4 scales, on COCO: what its LAUD counterparts are compared with.
_base_ = 'mmdet::ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py'

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'))
)
