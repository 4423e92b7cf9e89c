# LAUD-ResNet-101 Mask2Former on COCO, layer skipping, t = 0.5, LAUDNet's recipe.
_base_ = ['mmdet::mask2former/mask2former_r101_8xb2-lsj-50e_coco.py', './_base_/laud_coco.py']

model = dict(backbone=dict(type='LASResNet', granularity='all'))
custom_hooks = [*_base_.las_hooks, dict(_base_.sparsity, target=0.5)]
