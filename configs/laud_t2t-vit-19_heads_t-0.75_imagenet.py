# LAUD-T2T-ViT-19 on ImageNet, head skipping, t = 0.75.
_base_ = './_base_/laud_t2t_vit_19.py'

model = dict(backbone=dict(policies=['heads']))
custom_hooks = [
    *_base_.laud_hooks,
    dict(type='SparsityLossHook', target=0.75, bounded='flops_ratio'),
]
