# The static DeiT-S by AdaViT's recipe.
_base_ = ['./_base_/deit_s.py', './_base_/vit_imagenet.py']
