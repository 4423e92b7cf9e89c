"""Small dynamic transformers."""

import torch
from torch import nn

from las_mm.models.transformer_mmpretrain import LAST2T_ViT, LASVisionTransformer

SMALL = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=48)


def small(kind: str = 'vit', **options) -> nn.Module:
    """A small dynamic transformer; its images are 64 pixels wide."""
    torch.manual_seed(0)
    if kind == 'vit':
        net = LASVisionTransformer(SMALL, img_size=64, **options)
    else:
        net = LAST2T_ViT(3, embed_dims=24, img_size=64, t2t_cfg=dict(token_dims=8), **options)
    return net.eval()


def undecide(net: nn.Module) -> nn.Module:
    """Let every masker depend on its input."""
    for block in net.blocks:
        for masker in block.maskers:
            nn.init.normal_(masker.mlp_head.weight)
            nn.init.zeros_(masker.mlp_head.bias)
    return net
