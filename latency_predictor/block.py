"""Which operators a block runs, static and dynamic (Figure 2 bottom, Section 3.4).

The functions return lists of ``Operator``; rates may be arrays, so that one list describes a block
at many activation rates. ``deciding.py`` has what channels and whole blocks need beside this.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from . import operators as ops
from .fusion import DEFAULT_FUSION, Fusion
from .macs import SQUEEZE_KERNEL
from .operators.operator import Count, Operator, Size
from .rates import active_patches
from .spec import BRANCH, DILATED, BlockSpec, LayerSpec
from .winograd import winograd_share


def layer_operator(layer: LayerSpec, batch_size: int = 1) -> Operator:
    """Operator of a static layer over whole maps; a gate has several, see :func:`gate`."""
    if layer.kind == 'conv':
        return ops.convolution(
            layer.name or 'conv',
            layer.in_channels,
            layer.out_channels,
            *layer.size,
            layer.kernel,
            layer.stride,
            layer.groups,
            layer.dilation,
            batch_size,
        )
    if layer.kind == 'fc':
        return ops.fully_connected('fc', layer.in_channels, layer.out_channels, batch_size)
    if layer.kind == 'norm':
        return ops.over_rows('norm', batch_size * layer.height * layer.width, layer.out_channels)
    if layer.kind == 'unfold':
        return ops.elementwise(
            'unfold', batch_size * layer.height * layer.width, layer.out_channels
        )
    if layer.kind == 'concat':
        return ops.concatenation(layer.out_channels, *layer.size, batch_size)
    if layer.height == layer.width == 1:  # a global pool: its stride is the size of the map
        size = layer.stride, layer.stride
        return ops.global_pool(layer.kind, layer.out_channels, size, batch_size, batch_size)
    return ops.pooling(
        layer.kind, layer.out_channels, *layer.size, layer.kernel, layer.stride, batch_size
    )


def gate(
    layer: LayerSpec, patch: Size, patches: Count, batch_size: int, is_patch: bool
) -> list[Operator]:
    """Mean, two fully connected layers, scaling; dynamic: over the active patches only."""
    channels = layer.in_channels
    return [
        ops.global_pool('se_pool', channels, patch, patches, batch_size),
        ops.fully_connected('se_reduce', channels, layer.squeeze, batch_size),
        ops.fully_connected('se_expand', layer.squeeze, channels, batch_size),
        ops.scale(channels, patch, patches, is_patch),
    ]


def static_operators(
    block: BlockSpec, batch_size: int = 1, conv3_add: bool = False
) -> list[Operator]:
    """The block without maskers: its layers, what joins them to the input, the shortcut."""
    return whole_operators(block, batch_size, conv3_add) + shortcut_operators(block, batch_size)


def whole_operators(
    block: BlockSpec, batch_size: int = 1, conv3_add: bool = False
) -> list[Operator]:
    """All layers over whole maps, and the residual addition; no shortcut."""
    plain, result = block.static(), []
    for layer in block.layers:
        if layer.kind == 'gate':
            result += gate(layer, layer.size, batch_size, batch_size, is_patch=False)
            continue
        operator = layer_operator(layer, batch_size)
        result.append(replace(operator, winograd_share=winograd_share(plain, layer)))
    if block.join != 'add':
        return result
    if conv3_add:
        result[-1] = ops.with_addition(result[-1], f'{result[-1].name}_add', block.width)
        return result
    return [*result, ops.add(block.out_channels, block.height, block.width, patches=batch_size)]


def shortcut_operators(block: BlockSpec, batch_size: int = 1) -> list[Operator]:
    """What the input goes through beside the layers; always dense."""
    return [layer_operator(layer, batch_size) for layer in block.shortcut]


def always_running(block: BlockSpec, batch_size: int = 1) -> list[Operator]:
    """Layers over whole maps that no decision touches, such as DenseNet's concatenation."""
    layers = [layer for layer in block.layers if BRANCH not in layer.runs_at]
    return [layer_operator(layer, batch_size) for layer in layers]


def can_fuse_masker(block: BlockSpec) -> bool:
    """Whether the mask's logit can be one more output channel of the first convolution.

    It reads the block's own input then, all channels of it, and runs over the dilated pixels.
    """
    first = block.layers[0]
    return DILATED in first.runs_at and first.groups == 1 and block.masker == 'pool'


def dynamic_first_convolution(
    block: BlockSpec,
    activation_rate: ArrayLike,
    dilated_rate: ArrayLike | None = None,
    fused: bool = True,
    fusion: Fusion = DEFAULT_FUSION,
    batch_size: int = 1,
) -> list[Operator]:
    """Masker and the dilated layer, fused (dense, one more channel) or not (on patches).

    Unfused, the layer runs on every active patch with the halo that the next one reads.
    Overlapping halos are computed twice, so that it may cost more than a dense one. With a
    ``dilated_rate`` it runs on that share of the map instead, each pixel once.
    """
    layer = block.dilated
    if fused and layer is not None:
        wider = replace(layer, out_channels=layer.out_channels + 1, name=f'masker_{layer.name}')
        return [layer_operator(wider, batch_size)]
    patches = active_patches(block, activation_rate, batch_size)
    _, halo = _patch_sizes(block)
    if layer is not None and dilated_rate is not None:
        pixels = np.asarray(dilated_rate, float) * layer.height * layer.width
        patches = batch_size * pixels / (halo[0] * halo[1])  # as many pixels, not whole patches
    result = [*_masker(block, batch_size), ops.indexing(block.grid, patches, batch_size)]
    if layer is None:
        return result
    source, name = block.source_of(layer), layer.name
    if not fusion.gather_conv2:
        reach = (layer.kernel - 1) * layer.dilation + 1
        edges = (halo[0] - 1) * layer.stride + reach, (halo[1] - 1) * layer.stride + reach
        result.append(
            ops.gather(f'gather_{name}', layer.in_channels, edges, patches, source, batch_size)
        )
    fetched = source if fusion.gather_conv2 else None
    return [*result, _on_patches(layer, name, halo, patches, batch_size, fetched, layer.size)]


def _masker(block: BlockSpec, batch_size: int) -> list[Operator]:
    """What decides on patches by itself."""
    channels, size = block.in_channels, block.input_size
    if block.masker == 'pool':
        return [ops.masker(channels, *size, patches=batch_size)]
    window = SQUEEZE_KERNEL, block.stride
    return [
        ops.convolution('masker', channels, 1, *block.grid, *window, patches=batch_size),
        ops.global_pool('masker_pool', channels, size, batch_size, batch_size),
        ops.fully_connected('masker_fc', channels, 1, batch_size),
    ]


def dynamic_rest(
    block: BlockSpec,
    activation_rate: ArrayLike,
    fusion: Fusion = DEFAULT_FUSION,
    batch_size: int = 1,
    dilated_rate: Count | None = None,
) -> list[Operator]:
    """Everything else: the layers at active pixels, what joins them to the input, the shortcut.

    A ``dilated_rate`` says how much of its input map the first of these layers reads; without it,
    overlapping halos are taken to be read as often as they occur.
    """
    patch, halo = _patch_sizes(block)
    reader, target = block.reader, (block.height, block.width)
    source = block.source_of(reader)
    patches = active_patches(block, activation_rate, batch_size)
    adds_in_place = fusion.conv3_add and block.join == 'add'
    result = always_running(block, batch_size)
    for layer in block.layers[block.layers.index(reader) :]:
        if layer.kind == 'gate':
            result += gate(layer, patch, patches, batch_size, is_patch=True)
            continue
        kept = target if adds_in_place and layer is block.convs[-1] else None
        if layer is not reader:
            result.append(_on_patches(layer, layer.name, patch, patches, batch_size, None, kept))
            continue
        name, fetched = f'gather_{layer.name}', source if fusion.gather_conv2 else None
        if not fusion.gather_conv2:
            result.append(ops.gather(name, layer.in_channels, halo, patches, source, batch_size))
            name = layer.name
        reading = _on_patches(layer, name, patch, patches, batch_size, fetched, kept, dilated_rate)
        share = winograd_share(block, layer, activation_rate, dilated_rate)
        result.append(replace(reading, winograd_share=share))
    result = _joined(block, result, patch, patches, fusion, batch_size)
    return result + shortcut_operators(block, batch_size)


def _joined(
    block: BlockSpec,
    operators: Sequence[Operator],
    patch: Size,
    patches: Count,
    fusion: Fusion,
    batch_size: int,
) -> list[Operator]:
    """The operators, and how their patches get into the block's output."""
    target, channels = (block.height, block.width), block.out_channels
    if block.join == 'add' and fusion.conv3_add:
        *others, last = operators
        return [*others, ops.with_addition(last, f'{last.name}_scatter_add', block.width)]
    if block.join == 'add' and fusion.scatter_add:
        return [*operators, ops.scatter_add(channels, patch, patches, target, batch_size)]
    scatter = ops.scatter(channels, patch, patches, target, batch_size)
    if block.join == 'concat':  # the map of new features, zero where nothing was computed
        return [*operators, scatter]
    return [*operators, scatter, ops.add(channels, *target, patches=batch_size)]


def _patch_sizes(block: BlockSpec) -> tuple[Size, Size]:
    """S x S patch of the block's output, and what the reader reads of it; both cut to their map."""
    reader, size = block.reader, block.patch
    height, width = min(size, block.height), min(size, block.width)
    rows, columns = block.source_of(reader)
    reach, stride = (reader.kernel - 1) * reader.dilation + 1, reader.stride
    halo = min((height - 1) * stride + reach, rows), min((width - 1) * stride + reach, columns)
    return (height, width), halo


def _on_patches(
    layer: LayerSpec,
    name: str,
    patch: Size,
    patches: Count,
    batch_size: int,
    source: Size | None,
    target: Size | None,
    distinct_rate: Count | None = None,
) -> Operator:
    return ops.dynamic_convolution(
        name,
        layer.in_channels,
        layer.out_channels,
        patch,
        patches,
        layer.kernel,
        layer.stride,
        layer.groups,
        layer.dilation,
        source,
        target,
        batch_size,
        distinct_rate,
    )
