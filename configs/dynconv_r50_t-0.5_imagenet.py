# The pixel-wise baseline DynConv in ResNet-50, t = 0.5 (Sec. 4.3.1): S = 1 in every stage, bounds
# on each block's share of FLOPs, no distillation.
_base_ = './_base_/las_r50_imagenet.py'

model = dict(backbone=dict(granularity='1-1-1-1'))
custom_hooks = [
    *_base_.las_hooks,
    dict(type='SparsityLossHook', target=0.5, bounded='flops_ratio'),
]
