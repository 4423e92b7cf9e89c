"""Vision transformers as NetworkSpec: DeiT, ViT and T2T-ViT, as mmpretrain has them."""

from dataclasses import dataclass

from .encoder_spec import EncoderSpec
from .network import Granularity, NetworkSpec
from .spec import LayerSpec, Size

CLASSES = 1000
PATCH = 16
# Channels of a token, layers, heads, hidden channels (Touvron et al., "DeiT", Table 1; mmpretrain's
# ViT of sizes 's' and 'b').
_VIT = {
    'deit_t': (192, 12, 3, 768),
    'deit_s': (384, 12, 6, 1536),
    'deit_b': (768, 12, 12, 3072),
    'vit_s': (768, 8, 8, 2304),
    'vit_b': (768, 12, 12, 3072),
}
# (Yuan et al., "Tokens-to-Token ViT", Table 1.)
_T2T = {'t2t_vit_14': (384, 14, 6, 1152), 't2t_vit_19': (448, 19, 7, 1344)}
TRANSFORMER_NAMES = (*_VIT, *_T2T)
T2T_WIDTH = 64


@dataclass(frozen=True)
class SoftSplit:
    """T2T's overlapping windows.

    Attributes:
        kernel: Edge of a window in pixels.
        stride: From one to the next.
        padding: Pixels around the map.
    """

    kernel: int
    stride: int
    padding: int

    def after(self, size: Size) -> Size:
        """(rows, columns) of windows of a map of (height, width)."""
        rows, columns = (
            (edge + 2 * self.padding - self.kernel) // self.stride + 1 for edge in size
        )
        return rows, columns


T2T_SPLITS = SoftSplit(7, 4, 2), SoftSplit(3, 2, 1), SoftSplit(3, 2, 1)


def transformer(
    name: str, image: Size, granularity: Granularity = None, head: bool = False
) -> NetworkSpec:
    """A vision transformer of one stage, static or skipping tokens.

    Args:
        name: One of TRANSFORMER_NAMES.
        image: (height, width) in pixels.
        granularity: S, edge of a patch of tokens that one decision is about; None for the static
            network. :meth:`~latency_predictor.NetworkSpec.with_policies` gives other decisions.
        head: Whether to append ImageNet's classifier, of the class token.
    """
    width, depth, heads, hidden = (_VIT | _T2T)[name]
    if name in _T2T:
        stem, grid = tokens_to_token(image, width)
    else:
        rows, columns = (-(-edge // PATCH) for edge in image)
        grid = rows, columns
        stem = (LayerSpec('conv', 3, width, *grid, kernel=PATCH, stride=PATCH),)
    prefix = 'encoder' if name in _T2T else 'layers'
    blocks = tuple(
        EncoderSpec(f'{prefix}.{index}', 0, width, heads, hidden, grid) for index in range(depth)
    )
    last = (LayerSpec('norm', width, width, blocks[0].tokens),)
    classifier = (LayerSpec('fc', width, CLASSES),) if head else ()
    network = NetworkSpec(name, image, blocks, stem, classifier, last)
    return network.with_tokens(granularity)


def tokens_to_token(
    image: Size, width: int, inner: int = T2T_WIDTH, channels: int = 3
) -> tuple[tuple[LayerSpec | EncoderSpec, ...], Size]:
    """T2T's stem: windows of the map, attention between them, twice; windows, a linear layer.

    Args:
        image: (height, width) in pixels.
        width: Channels of a token that comes out.
        inner: Channels of a token in between.
        channels: Of the image.

    Returns:
        The layers, and the (rows, columns) of tokens.
    """
    layers: list[LayerSpec | EncoderSpec] = []
    size = image
    for index, split in enumerate(T2T_SPLITS):
        size, window = split.after(size), channels * split.kernel**2
        layers.append(LayerSpec('unfold', channels, window, *size))
        if index < len(T2T_SPLITS) - 1:
            name = f'attention{index + 1}'
            layers.append(EncoderSpec(name, 0, inner, 1, inner, size, window, extra=0))
        channels = inner
    return (*layers, LayerSpec('conv', window, width, *size)), size
