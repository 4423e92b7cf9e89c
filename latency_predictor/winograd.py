"""What Winograd's F(2x2, 3x3) leaves of a block's 3x3 convolution (Lavin and Gray, 2016).

Outputs are computed by quads of 2x2, which take 16 products for each pair of channels, not 36. A
quad costs the same whether all of its pixels are active or one: what counts is how many quads the
mask touches.
"""

import numpy as np
from numpy.typing import ArrayLike

from .operators import Count
from .spec import BlockSpec, LayerSpec

# Lane operations for an output of a whole quad besides its products: the transforms add 8 + 6
# times, and write and read 4 + 4 elements each way.
_TRANSFORM = 30
_PRODUCTS, _DIRECT_PRODUCTS = 4, 9  # for each output and input channel


def winograd_share(
    block: BlockSpec,
    layer: LayerSpec,
    activation_rate: ArrayLike = 1.0,
    dilated_rate: Count | None = None,
) -> Count | None:
    """Lane operations per multiply-accumulate of the direct convolution, 1 where that is less.

    Args:
        block: The block.
        layer: One of its layers. A plain 3x3 convolution between two others can be computed so; the
            last one adds to the identity as it writes, which transformed tiles cannot.
        activation_rate: r, scalar or (R,); 1 for a static block.
        dilated_rate: Share of the layer's input that it reads; None if every patch is by itself.

    Returns:
        Of the shape of the rate, or None where the algorithm does not apply.
    """
    if not _applies(block, layer):
        return None
    rate = np.asarray(activation_rate, float)
    quads = np.minimum(_quad_rate(block, rate, dilated_rate), _whole(block.height, block.width))
    products = _PRODUCTS * layer.in_channels + _TRANSFORM
    share = products / (_DIRECT_PRODUCTS * layer.in_channels) * quads / np.maximum(rate, 1e-9)
    return np.minimum(share, 1.0)


def _applies(block: BlockSpec, layer: LayerSpec) -> bool:
    index = block.layers.index(layer)
    around = block.layers[max(index - 1, 0) : index + 2]
    plain = layer.kernel == 3 and layer.stride == layer.dilation == layer.groups == 1
    return plain and len(around) == 3 and all(other.kind == 'conv' for other in around)


def _whole(height: int, width: int) -> float:
    """Pixels of the quads that cover a map or a patch, over its own pixels."""
    return 4 * np.ceil(height / 2) * np.ceil(width / 2) / (height * width)


def _quad_rate(block: BlockSpec, rate: np.ndarray, dilated_rate: Count | None) -> np.ndarray:
    """Pixels of the touched quads, as a share of the map's.

    Patches of even S consist of quads. Those of odd S cut one in every second row and column of
    quads: along the edge of an active area quads reach half a pixel beyond it on average, where
    the 3x3 reaches one pixel.
    """
    size = block.patch
    if size % 2 == 0 or size >= max(block.height, block.width):
        return rate * _whole(min(size, block.height), min(size, block.width))
    if dilated_rate is None:
        return rate * _whole(size, size)
    return rate + np.maximum(np.asarray(dilated_rate, float) - rate, 0) / 2
