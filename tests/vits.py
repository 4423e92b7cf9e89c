"""Small dynamic vision transformers, and classifiers with them."""

import torch
from detectors import build_model, scope
from mmengine.config import ConfigDict
from torch import nn

from las_mm.models.transformer_mmpretrain import LAST2T_ViT, LASVisionTransformer

ARCH = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=48)
BACKBONES = {
    'vit': dict(type='LASVisionTransformer', arch=ARCH, img_size=32, patch_size=8),
    't2t': dict(
        type='LAST2T_ViT',
        num_layers=3,
        embed_dims=24,
        img_size=64,
        t2t_cfg=dict(token_dims=8),
        layer_cfgs=dict(num_heads=3, feedforward_channels=48),
    ),
}
SIZES = {'vit': 32, 't2t': 64}


def vit_config(kind: str = 'vit', augments: list[dict] | None = None, **options) -> ConfigDict:
    """A classifier of ten classes; options are its backbone's, augments mix its images."""
    backbone = dict(BACKBONES[kind], **options)
    backbone['type'] = f'mmpretrain.{backbone["type"]}'
    return ConfigDict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        head=dict(
            type='mmpretrain.VisionTransformerClsHead',
            num_classes=10,
            in_channels=24,
            loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        ),
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor',
            mean=[127.0] * 3,
            std=[64.0] * 3,
            num_classes=10,
            batch_augments=augments and dict(augments=augments),
        ),
    )


def vit(kind: str = 'vit', **options) -> nn.Module:
    """Such a classifier in training, whose decisions depend on the image."""
    torch.manual_seed(0)
    with scope('classifier'):
        model = undecide(build_model(vit_config(kind, **options)))
    nn.init.normal_(model.head.layers.head.weight)  # zeros would teach the backbone nothing
    model.train()  # returns nothing
    return model


def small(kind: str = 'vit', **options) -> nn.Module:
    """A backbone alone, in inference; its images are 64 pixels wide."""
    torch.manual_seed(0)
    if kind == 'vit':
        net = LASVisionTransformer(ARCH, img_size=64, **options)
    else:
        net = LAST2T_ViT(3, embed_dims=24, img_size=64, t2t_cfg=dict(token_dims=8), **options)
    return net.eval()


def undecide(network: nn.Module) -> nn.Module:
    """Let every masker of a transformer depend on its input."""
    for name, module in network.named_modules():
        if name.endswith('_masker'):
            nn.init.normal_(module.mlp_head.weight)
            nn.init.zeros_(module.mlp_head.bias)
    return network
