# LAUD-ResNet-101 DDQ-DETR, 4 scales, on COCO, channel-2222, t = 0.5, LAUDNet's recipe.
_base_ = ['mmdet::ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py', './_base_/laud_coco.py']

model = dict(
    backbone=dict(
        type='LASResNet',
        depth=101,
        granularity=None,
        channel_groups='2-2-2-2',
        freeze_maskers=True,
        init_cfg=dict(checkpoint='torchvision://resnet101'),
    )
)
custom_hooks = [*_base_.las_hooks, dict(_base_.sparsity, target=0.5)]
