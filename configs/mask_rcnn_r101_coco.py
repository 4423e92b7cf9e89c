# The static ResNet-101 Mask R-CNN on COCO: the baseline of Table 3, mmdet's own recipe.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py'
custom_imports = dict(imports=['las_mm'])
custom_hooks = [dict(type='SafeCheckpointHook')]
