# LAUD-ResNet-101 Mask2Former on COCO, channel-2222, t = 0.5, LAUDNet's recipe.
_base_ = ['mmdet::mask2former/mask2former_r101_8xb2-lsj-50e_coco.py', './_base_/las_coco.py']

model = dict(backbone=dict(type='LASResNet', granularity=None, channel_groups='2-2-2-2'))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='SparsityLossHook', target=0.5, alpha=1.0, bounds=False, as_released=True),
]
