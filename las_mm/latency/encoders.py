"""Vision transformers as the latency predictor sees them."""

from torch import nn

from las_mm.layers import EncoderBlock, TokenMasker
from las_mm.models.transformer import DynamicTransformer
from latency_predictor import EncoderSpec, LayerSpec, NetworkSpec
from latency_predictor.network import AnyLayer
from latency_predictor.transformers import T2T_SPLITS, tokens_to_token

Size = tuple[int, int]


def describe_transformer(backbone: DynamicTransformer, input_size: Size) -> NetworkSpec:
    """The stem, every encoder layer and the last norm of a backbone at images of (H, W).

    Layers that decide on nothing stand with the stem, so that there is a block for each trace.
    """
    grid = backbone.token_grid(input_size)
    layers = [part for part in backbone.modules() if isinstance(part, EncoderBlock)]
    described = [describe_layer(layer, grid) for layer in layers]
    still = [layer for layer in described if not layer.policies]
    width, tokens = described[-1].width, described[-1].tokens
    last = (LayerSpec('norm', width, width, tokens),) if backbone.final_norm else ()
    return NetworkSpec(
        name=backbone.title,
        input_size=input_size,
        stem=(*_stem(backbone, input_size), *still),
        blocks=tuple(layer for layer in described if layer.policies),
        between=last,
    )


def describe_layer(layer: EncoderBlock, grid: Size) -> EncoderSpec:
    """One encoder layer, given the (rows, columns) of the patches' tokens."""
    axes = {masker.axis: masker for masker in layer.maskers}
    tokens = axes.get('tokens')
    return EncoderSpec(
        name=layer.name,
        stage=layer.stage,
        width=layer.attn.embed_dims,
        heads=layer.attn.num_heads,
        hidden=layer.linears['ffn.layers.0.0'].out_features,
        grid=grid,
        extra=layer.extra,
        policies=tuple(axes),
        token_patch=tokens.granularity if isinstance(tokens, TokenMasker) else 1,
        head_mode=layer.head_mode,
        tokens_with_mlp=layer.tokens_with_mlp,
    )


def _stem(backbone: DynamicTransformer, size: Size) -> tuple[AnyLayer, ...]:
    """What makes tokens: convolutions, or T2T's windows with attention between them."""
    convs = backbone.stem_convs(size)
    if convs:
        return tuple(_conv(conv, out) for conv, out in convs)
    project = backbone.tokens_to_token.project
    inner = project.in_features // T2T_SPLITS[-1].kernel ** 2
    channels = backbone.tokens_to_token.attention1.attn.input_dims // T2T_SPLITS[0].kernel ** 2
    return tokens_to_token(size, project.out_features, inner, channels)[0]


def _conv(conv: nn.Conv2d, size: Size) -> LayerSpec:
    return LayerSpec(
        'conv',
        conv.in_channels,
        conv.out_channels,
        *size,
        kernel=conv.kernel_size[0],
        stride=conv.stride[0],
        groups=conv.groups,
    )
