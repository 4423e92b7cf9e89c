# LAUD-ResNet-101 Mask R-CNN on COCO, channel-2222, t = 0.8, LAUDNet's recipe.
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py', './_base_/laud_coco.py']

model = dict(
    backbone=dict(
        type='LASResNet',
        granularity=None,
        channel_groups='2-2-2-2',
        freeze_maskers=True,
    )
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))))
custom_hooks = [*_base_.las_hooks, dict(_base_.sparsity, target=0.8)]
