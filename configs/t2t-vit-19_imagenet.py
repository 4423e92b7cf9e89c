# The static T2T-ViT-19 by AdaViT's recipe: baseline, and teacher of the LAUD configs.
_base_ = ['mmpretrain::_base_/models/t2t-vit-t-19.py', './_base_/vit_imagenet.py']
