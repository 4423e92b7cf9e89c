# LAUD-T2T-ViT-19 on ImageNet, attention and MLP skipping, t = 0.45.
_base_ = './_base_/laud_t2t_vit_19.py'

model = dict(backbone=dict(policies=['blocks']))
custom_hooks = [
    *_base_.laud_hooks,
    dict(type='SparsityLossHook', target=0.45, bounded='flops_ratio'),
]
