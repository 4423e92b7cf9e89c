"""Pooling, and what squeeze-and-excitation does besides its convolutions.

Every factory takes ``patches``, P over the whole batch, scalar or array.
"""

from .operator import Count, Move, Operator, Size


def pooling(
    name: str,
    channels: int,
    height: int,
    width: int,
    kernel: int = 2,
    stride: int = 2,
    patches: Count = 1,
) -> Operator:
    """Max or average pooling to height x width outputs."""
    source = channels * height * stride * width * stride
    return Operator(
        name,
        patches,
        channels,
        height,
        width,
        kernel**2,
        patches * (source + channels * height * width),
        (Move(width, kernel, stride), Move(width)),
    )


def global_pool(name: str, channels: int, patch: Size, patches: Count, images: int = 1) -> Operator:
    """Mean over all pixels: ``patches`` patches of ``patch`` pixels down to one value a channel.

    Partial sums of the patches are added up on chip; one value per channel and image goes out.
    """
    height, width = patch
    size = channels * height * width
    return Operator(
        name,
        patches,
        channels,
        1,
        1,
        float(height * width),
        size * patches + channels * images,
        (Move(1, depth=height * width), Move(1)),
    )


def scale(channels: int, patch: Size, patches: Count, is_patch: bool = False) -> Operator:
    """Multiply each channel by its attention (last step of squeeze and excitation)."""
    height, width = patch
    size = channels * height * width
    return Operator(
        'se_scale',
        patches,
        channels,
        height,
        width,
        1.0,
        2 * size * patches + channels,
        (Move(width), Move(width)),
        is_patch=is_patch,
    )
