# Ada-T2T-ViT-19 on ImageNet: half of the tokens, heads and blocks, AdaViT's loss and recipe.
_base_ = ['mmpretrain::_base_/models/t2t-vit-t-19.py', './_base_/vit_imagenet.py']
load_from = 'https://download.openmmlab.com/mmclassification/v0/t2t-vit/'
load_from += 't2t-vit-t-19_8xb64_in1k_20211214-7f5e3aaf.pth'

model = dict(backbone=dict(type='LAST2T_ViT'))
custom_hooks = _base_.ada_hooks
