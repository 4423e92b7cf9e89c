"""Which operators a block runs, static and dynamic (Figure 2 bottom, Section 3.4).

The functions return lists of ``Operator``; rates may be arrays, so that one list describes a block
at many activation rates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from . import operators as ops
from .operators import Count, Operator, Size
from .rates import active_patches
from .spec import BlockSpec, LayerSpec
from .winograd import winograd_share

__all__ = [
    'DEFAULT_FUSION',
    'Fusion',
    'dynamic_first_convolution',
    'dynamic_rest',
    'layer_operator',
    'static_operators',
]


@dataclass(frozen=True)
class Fusion:
    """Which operators share a kernel (Section 3.4); the rows of Table 1.

    Attributes:
        masker_conv1: compute the mask's logit as one more output channel of conv1, which is then
            dense. None takes whichever is predicted to be faster: fused when r > r_th.
        gather_conv2: fetch patches inside the dynamic convolution instead of copying them first.
        scatter_add: add the patches to the identity in place of scatter, then add.
        conv3_add: not in the paper: the last convolution of static and dynamic blocks adds to the
            identity in place as it writes, as CPU libraries do; no add or scatter-add is left.
    """

    masker_conv1: bool | None = None
    gather_conv2: bool = True
    scatter_add: bool = True
    conv3_add: bool = False


DEFAULT_FUSION = Fusion()


def layer_operator(layer: LayerSpec, batch_size: int = 1) -> Operator:
    """Operator of a stem or head layer."""
    if layer.kind == 'conv':
        return ops.convolution(
            'conv',
            layer.in_channels,
            layer.out_channels,
            layer.height,
            layer.width,
            layer.kernel,
            layer.stride,
            layer.groups,
            layer.dilation,
            batch_size,
        )
    if layer.kind == 'fc':
        return ops.fully_connected('fc', layer.in_channels, layer.out_channels, batch_size)
    if layer.height == layer.width == 1:  # a global pool: its stride is the size of the map
        return ops.global_pool(
            layer.kind, layer.out_channels, (layer.stride, layer.stride), batch_size, batch_size
        )
    return ops.pooling(
        layer.kind,
        layer.out_channels,
        layer.height,
        layer.width,
        layer.kernel,
        layer.stride,
        batch_size,
    )


def _shortcut(block: BlockSpec, batch_size: int) -> list[Operator]:
    if not block.shortcut:
        return []
    return [
        ops.convolution(
            'shortcut',
            block.in_channels,
            block.out_channels,
            block.height,
            block.width,
            1,
            block.stride,
            patches=batch_size,
        )
    ]


def static_operators(
    block: BlockSpec, batch_size: int = 1, conv3_add: bool = False
) -> list[Operator]:
    """The block without masker: its convolutions, squeeze-and-excitation, residual addition."""
    size = (block.height, block.width)
    result = [
        _first_convolution(block, block.mid_channels, batch_size),
        _second_convolution(block, batch_size),
    ]
    if block.se_channels:
        result += _squeeze_excitation(block, size, batch_size, batch_size, is_patch=False)
    if block.kind == 'bottleneck':
        result.append(
            ops.convolution(
                'conv3', block.mid_channels, block.out_channels, *size, patches=batch_size
            )
        )
    if conv3_add:
        result[-1] = ops.with_addition(result[-1], f'{result[-1].name}_add', block.width)
    else:
        result.append(ops.add(block.out_channels, *size, patches=batch_size))
    return result + _shortcut(block, batch_size)


def _first_convolution(block: BlockSpec, out_channels: int, batch_size: int) -> Operator:
    """conv1 of a bottleneck (1x1 at input size) or of a basic block (3x3, strided)."""
    kernel, stride, dilation = block.conv1
    return ops.convolution(
        'conv1',
        block.in_channels,
        out_channels,
        *block.conv1_map,
        kernel,
        stride,
        dilation=dilation,
        patches=batch_size,
    )


def _second_convolution(block: BlockSpec, batch_size: int) -> Operator:
    kernel, stride, dilation = block.conv2
    conv = ops.convolution(
        'conv2',
        block.mid_channels,
        block.mid_channels,
        block.height,
        block.width,
        kernel,
        stride,
        block.groups,
        dilation,
        batch_size,
    )
    return replace(conv, winograd_share=winograd_share(block.with_granularity(None)))


def _squeeze_excitation(
    block: BlockSpec, patch: Size, patches: Count, batch_size: int, is_patch: bool
) -> list[Operator]:
    """Mean, two fully connected layers, scaling; dynamic: over the active patches only."""
    return [
        ops.global_pool('se_pool', block.mid_channels, patch, patches, batch_size),
        ops.fully_connected('se_reduce', block.mid_channels, block.se_channels, batch_size),
        ops.fully_connected('se_expand', block.se_channels, block.mid_channels, batch_size),
        ops.scale(block.mid_channels, patch, patches, is_patch),
    ]


def _patch_sizes(block: BlockSpec) -> tuple[Size, Size]:
    """S x S patch of the block's output, and what the 3x3 of conv2 reads; both cut to their map."""
    kernel, stride, dilation = block.conv2
    size = block.granularity or max(block.height, block.width)
    height, width = min(size, block.height), min(size, block.width)
    rows, columns = block.conv1_map
    reach = (kernel - 1) * dilation + 1
    halo = min((height - 1) * stride + reach, rows), min((width - 1) * stride + reach, columns)
    return (height, width), halo


def dynamic_first_convolution(
    block: BlockSpec,
    activation_rate: ArrayLike,
    dilated_rate: ArrayLike | None = None,
    fused: bool = True,
    fusion: Fusion = DEFAULT_FUSION,
    batch_size: int = 1,
) -> list[Operator]:
    """Masker and conv1, fused (conv1 dense, one more channel) or not (conv1 on patches).

    Unfused, conv1 runs on every active patch with the halo that conv2 reads. Overlapping halos are
    computed twice, so that it may cost more than a dense conv1. With a ``dilated_rate`` it runs on
    that share of the map instead, each pixel once.
    """
    if fused:
        joint = _first_convolution(block, block.mid_channels + 1, batch_size)
        return [replace(joint, name='masker_conv1')]
    source, target = block.source, block.conv1_map
    _, halo = _patch_sizes(block)
    patches = active_patches(block, activation_rate, batch_size)
    if dilated_rate is not None:
        pixels = np.asarray(dilated_rate, float) * target[0] * target[1]
        patches = batch_size * pixels / (halo[0] * halo[1])  # as many pixels, not whole patches
    kernel, stride, dilation = block.conv1
    head = [
        ops.masker(block.in_channels, *source, patches=batch_size),
        ops.indexing(block.grid, patches, batch_size),
    ]
    if not fusion.gather_conv2:
        reach = (kernel - 1) * dilation + 1
        edges = (halo[0] - 1) * stride + reach, (halo[1] - 1) * stride + reach
        head.append(
            ops.gather('gather_conv1', block.in_channels, edges, patches, source, batch_size)
        )
    return head + [
        ops.dynamic_convolution(
            'conv1',
            block.in_channels,
            block.mid_channels,
            halo,
            patches,
            kernel,
            stride,
            dilation=dilation,
            source=source if fusion.gather_conv2 else None,
            target=target,
            batch_size=batch_size,
        )
    ]


def dynamic_rest(
    block: BlockSpec,
    activation_rate: ArrayLike,
    fusion: Fusion = DEFAULT_FUSION,
    batch_size: int = 1,
    dilated_rate: Count | None = None,
) -> list[Operator]:
    """Everything behind conv1: conv2, squeeze-and-excitation, conv3, scatter and add, shortcut.

    A ``dilated_rate`` says how much of conv1's map conv2 reads; without it, overlapping halos are
    taken to be read as often as they occur.
    """
    patch, halo = _patch_sizes(block)
    source, target = block.conv1_map, (block.height, block.width)
    patches = active_patches(block, activation_rate, batch_size)
    kernel, stride, dilation = block.conv2
    result = []
    if not fusion.gather_conv2:
        result.append(
            ops.gather('gather_conv2', block.mid_channels, halo, patches, source, batch_size)
        )
    conv2 = ops.dynamic_convolution(
        'gather_conv2' if fusion.gather_conv2 else 'conv2',
        block.mid_channels,
        block.mid_channels,
        patch,
        patches,
        kernel,
        stride,
        block.groups,
        dilation,
        source=source if fusion.gather_conv2 else None,
        target=target if fusion.conv3_add and block.kind == 'basic' else None,
        batch_size=batch_size,
        distinct_rate=dilated_rate,
    )
    share = winograd_share(block, activation_rate, dilated_rate)
    result.append(replace(conv2, winograd_share=share))
    if block.se_channels:
        result += _squeeze_excitation(block, patch, patches, batch_size, is_patch=True)
    if block.kind == 'bottleneck':
        result.append(
            ops.dynamic_convolution(
                'conv3',
                block.mid_channels,
                block.out_channels,
                patch,
                patches,
                target=target if fusion.conv3_add else None,
                batch_size=batch_size,
            )
        )
    if fusion.conv3_add:
        result[-1] = ops.with_addition(result[-1], f'{result[-1].name}_scatter_add', block.width)
    elif fusion.scatter_add:
        result.append(ops.scatter_add(block.out_channels, patch, patches, target, batch_size))
    else:
        result += [
            ops.scatter(block.out_channels, patch, patches, target, batch_size),
            ops.add(block.out_channels, *target, patches=batch_size),
        ]
    return result + _shortcut(block, batch_size)
