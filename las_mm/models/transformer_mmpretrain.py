"""Dynamic vision transformers as backbones of mmpretrain's classifiers (AdaViT)."""

from collections.abc import Sequence
from typing import Any, cast

from mmpretrain.models.backbones.t2t_vit import T2T_ViT, T2TTransformerLayer
from mmpretrain.models.backbones.vision_transformer import (
    TransformerEncoderLayer,
    VisionTransformer,
)
from mmpretrain.registry import MODELS
from torch import nn

from las_mm.executors.torch_tokens import fused
from las_mm.layers import EncoderBlock, Executor, conv_macs

from .conv_stem import ConvStem
from .stem import size_after
from .transformer import DynamicTransformer

MODELS.parent.register_module(module=ConvStem)  # where mmcv looks for convolutions

# T2T-ViT's by their numbers of layers: width, heads.
T2T_SIZES = {14: (384, 6), 19: (448, 7), 24: (512, 8)}


class LASEncoderLayer(EncoderBlock, TransformerEncoderLayer):
    """ViT's encoder layer with maskers."""


class LAST2TLayer(EncoderBlock, T2TTransformerLayer):
    """T2T-ViT's encoder layer with maskers."""


@MODELS.register_module()
class LASVisionTransformer(DynamicTransformer, VisionTransformer):
    """ViT and DeiT that skip tokens, heads and blocks.

    Args:
        arch: ``'deit-tiny'``, ``'deit-small'``, ``'deit-base'``, ``'small'``, ``'base'`` or a dict,
            as mmpretrain's VisionTransformer.
        policies, keep_layers, thresholds, token_patch, head_mode, tokens_with_mlp: Of
            :meth:`~las_mm.models.transformer.DynamicTransformer.make_transformer`.
        with_cp, executor: Of the same.
        **kwargs: Every other option of mmpretrain's VisionTransformer.

    Example:
        >>> LASVisionTransformer('deit-small', policies=('tokens', 'heads', 'blocks'))
    """

    encoder_name = 'layers'
    patch_embed: Any

    def __init__(
        self,
        arch: str | dict = 'deit-small',
        *,
        policies: Sequence[str] = ('tokens', 'heads', 'blocks'),
        keep_layers: int = 1,
        thresholds: dict[str, float] | None = None,
        token_patch: int = 1,
        head_mode: str = 'input',
        tokens_with_mlp: bool = True,
        with_cp: bool = False,
        executor: str = 'dense',
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        layers = cast(nn.ModuleList, self.layers)
        for layer in layers:
            layer.__class__ = LASEncoderLayer
        options = keep_layers, thresholds, token_patch, head_mode, tokens_with_mlp, with_cp
        self.make_transformer(layers, policies, *options)
        self.executor = executor

    def stem_convs(self, size: tuple[int, int]) -> list[tuple[nn.Conv2d, tuple[int, int]]]:
        embed, found = self.patch_embed, []
        if embed.adaptive_padding is not None:  # to whole patches
            height, width = embed.projection.stride
            size = -(-size[0] // height) * height, -(-size[1] // width) * width
        for layer in embed.projection.modules():
            if isinstance(layer, nn.Conv2d):
                size = size_after(layer, size)
                found.append((layer, size))
        return found

    def token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.stem_convs(size)[-1][1]

    def stem_macs(self, size: tuple[int, int]) -> int:
        return sum(conv_macs(layer, out) for layer, out in self.stem_convs(size))


@MODELS.register_module()
class LAST2T_ViT(DynamicTransformer, T2T_ViT):
    """T2T-ViT that skips tokens, heads and blocks.

    Args:
        num_layers: 14, 19 or 24, which also give width and heads unless these are given.
        policies, keep_layers, thresholds, token_patch, head_mode, tokens_with_mlp: Of
            :meth:`~las_mm.models.transformer.DynamicTransformer.make_transformer`.
        with_cp, executor: Of the same.
        **kwargs: Every other option of mmpretrain's T2T_ViT.

    Example:
        >>> LAST2T_ViT(19, policies=('tokens',), token_patch=2)
    """

    encoder_name = 'encoder'

    def __init__(
        self,
        num_layers: int = 19,
        *,
        policies: Sequence[str] = ('tokens', 'heads', 'blocks'),
        keep_layers: int = 1,
        thresholds: dict[str, float] | None = None,
        token_patch: int = 1,
        head_mode: str = 'input',
        tokens_with_mlp: bool = True,
        with_cp: bool = False,
        executor: str = 'dense',
        layer_cfgs: dict | None = None,
        **kwargs: Any,
    ) -> None:
        width, heads = T2T_SIZES.get(num_layers, (384, 6))
        kwargs.setdefault('embed_dims', width)
        layer_cfgs = {'num_heads': heads, **(layer_cfgs or {})}
        super().__init__(num_layers=num_layers, layer_cfgs=layer_cfgs, **kwargs)
        layers = cast(nn.ModuleList, self.encoder)
        for layer in layers:
            layer.__class__ = LAST2TLayer
        options = keep_layers, thresholds, token_patch, head_mode, tokens_with_mlp, with_cp
        self.make_transformer(layers, policies, *options)
        self.executor = executor

    def hand_out(self, executor: Executor[Any] | None) -> Executor[Any] | None:
        """As any transformer's; attention of the stem, which skips nothing, is fused with it."""
        before = super().hand_out(executor)
        for layer in (self.tokens_to_token.attention1, self.tokens_to_token.attention2):
            attn: Any = layer.attn
            shipped = attn.__dict__.setdefault('_shipped', attn.scaled_dot_product_attention)
            attn.scaled_dot_product_attention = shipped if executor is None else fused(shipped)
        return before

    def grids(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(h, w) of the tokens after each soft split of an image of (H, W)."""
        module, found = self.tokens_to_token, []
        for index in range(3):
            size = module._get_unfold_size(getattr(module, f'soft_split{index}'), size)
            found.append(size)
        return found

    def token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.grids(size)[-1]

    def stem_macs(self, size: tuple[int, int]) -> int:
        first, second, last = (height * width for height, width in self.grids(size))
        module = self.tokens_to_token
        macs = module.project.weight.numel() * last
        for tokens, layer in ((first, module.attention1), (second, module.attention2)):
            linears = [part for part in layer.modules() if isinstance(part, nn.Linear)]
            macs += tokens * sum(linear.weight.numel() for linear in linears)
            macs += 2 * tokens**2 * layer.attn.embed_dims
        return macs
