# LAUD-T2T-ViT-19 on ImageNet, tokens, heads and blocks, t = 0.6.
_base_ = './_base_/laud_t2t_vit_19.py'

model = dict(backbone=dict(policies=['tokens', 'heads', 'blocks']))
custom_hooks = [
    *_base_.laud_hooks,
    dict(type='SparsityLossHook', target=0.6, bounded='flops_ratio'),
]
