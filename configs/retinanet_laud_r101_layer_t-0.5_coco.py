# LAUD-ResNet-101 RetinaNet on COCO, layer skipping, t = 0.5, LAUDNet's recipe.
_base_ = ['mmdet::retinanet/retinanet_r101_fpn_1x_coco.py', './_base_/las_coco.py']

model = dict(backbone=dict(type='LASResNet', granularity='all', freeze_maskers=True))
optim_wrapper = dict(
    optimizer=dict(lr=0.02), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.2)))
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='SparsityLossHook', target=0.5, alpha=1.0, bounds=False, as_released=True),
]
