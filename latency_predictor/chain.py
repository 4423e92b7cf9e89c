"""Layers that read each other, which is what blocks are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .spec import BRANCH, CHANNELS, SITES, LayerSpec, Size


@dataclass(frozen=True)
class Conv:
    """A "same"-padded convolution in a chain.

    Attributes:
        name: Its name in the block.
        out_channels: C_out; C_in is what the convolution before it gives.
        kernel: Edge of the window.
        stride: As in a convolution.
        groups: As in a convolution.
        dilation: As in a convolution.
        share: ``'dilated'`` or ``'sites'``, the share of pixels that it runs at.
    """

    name: str
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    share: str = SITES


def chain(in_channels: int, input_size: Size, convs: Sequence[Conv]) -> tuple[LayerSpec, ...]:
    """Layers that read each other, each with all the shares that it can run at.

    What lies between two of them are inner channels, which both may skip: those of a depthwise
    convolution are the same on both of its sides.

    Args:
        in_channels: C_in of the first.
        input_size: (height, width) of the input.
        convs: In order of execution.
    """
    layers, size = [], input_size
    for index, conv in enumerate(convs):
        layer = LayerSpec(
            'conv', in_channels, conv.out_channels, groups=conv.groups, name=conv.name
        )
        sides = (index > 0) + (index < len(convs) - 1)
        inner = (CHANNELS,) * (min(sides, 1) if layer.is_depthwise else sides)
        size = -(-size[0] // conv.stride), -(-size[1] // conv.stride)
        layers.append(
            replace(
                layer,
                height=size[0],
                width=size[1],
                kernel=conv.kernel,
                stride=conv.stride,
                dilation=conv.dilation,
                runs_at=(conv.share, *inner, BRANCH),
            )
        )
        in_channels = conv.out_channels
    return tuple(layers)


def gate_after(layer: LayerSpec, squeeze: int) -> LayerSpec:
    """Squeeze-and-excitation of a layer's output, with ``squeeze`` channels inside."""
    channels = layer.out_channels
    return LayerSpec(
        'gate', channels, channels, *layer.size, name='gate', runs_at=(BRANCH,), squeeze=squeeze
    )


def projection(in_channels: int, out_channels: int, size: Size, stride: int) -> LayerSpec:
    """The 1x1 convolution of a shortcut, to an output of (height, width)."""
    return LayerSpec('conv', in_channels, out_channels, *size, stride=stride, name='shortcut')


def concatenation(channels: int, size: Size) -> LayerSpec:
    """A copy of several maps into one of (height, width); it always runs."""
    return LayerSpec('concat', channels, channels, *size, name='concat')
