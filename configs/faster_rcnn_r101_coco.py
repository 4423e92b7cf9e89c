# The static ResNet-101 Faster R-CNN on COCO: the baseline of Table 2, mmdet's own recipe.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'
custom_imports = dict(imports=['las_mm'])
custom_hooks = [dict(type='SafeCheckpointHook')]
