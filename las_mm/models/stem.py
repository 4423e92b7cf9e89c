"""The layers outside of the blocks, and the sizes that they make."""

from typing import Any

from torch import nn

StemLayer = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d
STEM_LAYERS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def size_after(layer: StemLayer, size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) that a layer makes of an input of (H, W)."""
    sizes = []
    for axis, edge in enumerate(size):
        values: list[Any] = [layer.kernel_size, layer.stride, layer.padding]
        values.append(getattr(layer, 'dilation', 1))
        kernel, stride, padding, dilation = (
            value if isinstance(value, int) else value[axis] for value in values
        )
        covered = edge + 2 * padding - dilation * (kernel - 1) - 1
        steps = -(-covered // stride) if getattr(layer, 'ceil_mode', False) else covered // stride
        # A last window that begins in the padding behind the image is left out.
        cut = getattr(layer, 'ceil_mode', False) and steps * stride >= edge + padding
        sizes.append(steps + 1 - cut)
    return sizes[0], sizes[1]
