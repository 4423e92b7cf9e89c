# What LAUD detectors on COCO share, as LAUDNet's detection code trains them: a constant
# temperature, the FLOPs term alone with weight 1, no distillation.
#
# Their backbones start from an ImageNet-trained LAUD-ResNet-101; give such a checkpoint with
#   --cfg-options model.backbone.init_cfg.checkpoint=PATH
# mmdet's static weights serve as well: then the maskers start with nearly everything on.
_base_ = './las_coco.py'
sparsity = dict(type='SparsityLossHook', alpha=1.0, bounds=False, as_released=True)
