# LAUD-T2T-ViT-19 on ImageNet, token skipping, t = 0.5.
_base_ = './_base_/laud_t2t_vit_19.py'

model = dict(backbone=dict(policies=['tokens']))
custom_hooks = [
    *_base_.laud_hooks,
    dict(type='SparsityLossHook', target=0.5, bounded='flops_ratio'),
]
