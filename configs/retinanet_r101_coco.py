# The static ResNet-101 RetinaNet on COCO: the baseline of Table 2, mmdet's own recipe.
_base_ = 'mmdet::retinanet/retinanet_r101_fpn_1x_coco.py'
custom_imports = dict(imports=['las_mm'])
custom_hooks = [dict(type='SafeCheckpointHook')]
