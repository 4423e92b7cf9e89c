# Ada-DeiT-S on ImageNet: half of the tokens, heads and blocks, AdaViT's loss and recipe.
_base_ = ['./_base_/deit_s.py', './_base_/vit_imagenet.py']
load_from = 'https://download.openmmlab.com/mmclassification/v0/deit/'
load_from += 'deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'

model = dict(backbone=dict(type='LASVisionTransformer'))
custom_hooks = _base_.ada_hooks
