# LAUD-ResNet-101 Mask R-CNN on COCO, channel-2222, t = 0.8, LAUDNet's recipe.
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py', './_base_/las_coco.py']

model = dict(
    backbone=dict(
        type='LASResNet',
        granularity=None,
        channel_groups='2-2-2-2',
        freeze_maskers=True,
    )
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='SparsityLossHook', target=0.8, alpha=1.0, bounds=False, as_released=True),
]
