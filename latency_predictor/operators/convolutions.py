"""Convolutions, over whole maps and over patches.

Every factory takes ``patches``, P over the whole batch, scalar or array.
"""

import dataclasses

import numpy as np

from .operator import Count, Move, Operator, Size


def _extent(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Input elements along an edge that ``size`` outputs read."""
    return (size - 1) * stride + (kernel - 1) * dilation + 1


def _padding_share(height: int, width: int, kernel: int, dilation: int) -> float:
    """Share of a 'same' convolution's products that fall outside the map.

    Along one edge the tap at offset t lies outside for |t| of the outputs.
    """
    offsets = np.abs((np.arange(kernel) - kernel // 2) * dilation)
    inside = [1 - np.minimum(offsets, size).sum() / (kernel * size) for size in (height, width)]
    return float(1 - inside[0] * inside[1])


def _is_depthwise(in_channels: int, out_channels: int, groups: int) -> bool:
    """Whether a tile reads just its own channels, which then are neighbours in memory."""
    return 1 < groups == in_channels == out_channels


def convolution(
    name: str,
    in_channels: int,
    out_channels: int,
    height: int,
    width: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    patches: Count = 1,
) -> Operator:
    """Static convolution over a whole map of height x width outputs."""
    group_channels = in_channels // groups
    weights = group_channels * kernel**2
    source = in_channels * height * stride * width * stride
    output = out_channels * height * width
    own = _is_depthwise(in_channels, out_channels, groups)
    window = (kernel - 1) * dilation + 1
    read = Move(width, window, stride, None if own else group_channels, groups)
    return Operator(
        name,
        patches,
        out_channels,
        height,
        width,
        weights,
        weights * out_channels + patches * (source + output),
        (read, Move(width)),
        weights,
        padding_share=_padding_share(height * stride, width * stride, kernel, dilation),
    )


def dynamic_convolution(
    name: str,
    in_channels: int,
    out_channels: int,
    patch: Size,
    patches: Count,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    source: Size | None = None,
    target: Size | None = None,
    batch_size: int = 1,
    distinct_rate: Count | None = None,
) -> Operator:
    """Convolution that computes only P patches of ``patch`` = (S1, S2) outputs.

    Args:
        source: (height, width) of the input map when patches are fetched from it by index (the
            gather is fused in): no more than the map is read from off-chip memory, and a tile's
            rows are runs in rows of that map. None when the input was gathered before: P dense
            patches with their halos.
        target: (height, width) of the map the patches are written to; None for dense patches.
        distinct_rate: Share of the source map that all patches with their halos cover together;
            None if it is not known, and then overlaps count as often as they are read.
    """
    height, width = patch
    group_channels = in_channels // groups
    weights = group_channels * kernel**2
    halo = [_extent(size, kernel, stride, dilation) for size in patch]
    read = in_channels * halo[0] * halo[1] * patches
    whole, distinct = read, None
    if source is not None:
        whole = batch_size * in_channels * source[0] * source[1]
        distinct = None if distinct_rate is None else distinct_rate * whole
        read = np.minimum(read, whole if distinct is None else distinct)
    moves = (
        Move(
            halo[1] if source is None else source[1],
            (kernel - 1) * dilation + 1,
            stride,
            None if _is_depthwise(in_channels, out_channels, groups) else group_channels,
            groups,
        ),
        Move(width if target is None else target[1]),
    )
    rest = weights * out_channels + patches * out_channels * height * width
    return Operator(
        name,
        patches,
        out_channels,
        height,
        width,
        weights,
        rest + read,
        moves,
        weights,
        working_set=rest + whole,
        distinct_input=distinct,
        is_patch=True,
    )


def with_addition(operator: Operator, name: str, identity_pitch: int) -> Operator:
    """The convolution with the residual addition (and ReLU) done in place as it writes.

    Each output element is read once more, from the identity's map with rows of ``identity_pitch``.
    """
    size = operator.patches * operator.channels * operator.height * operator.width
    working_set = operator.working_set
    return dataclasses.replace(
        operator,
        name=name,
        offchip=operator.offchip + size,
        working_set=None if working_set is None else working_set + size,
        moves=(*operator.moves, Move(identity_pitch)),
    )


def masker(in_channels: int, height: int, width: int, patches: Count = 1) -> Operator:
    """Unfused masker: the 1x1 convolution to one logit (Eq. 3) over its own read of the input.

    Pooling and the 1x1 convolution are linear and commute, so that the logits are summed over the
    patches on the way out.
    """
    return convolution('masker', in_channels, 1, height, width, patches=patches)


def fully_connected(name: str, in_channels: int, out_channels: int, images: int = 1) -> Operator:
    """Fully connected layer: a 1x1 convolution on a 1 x 1 map."""
    return convolution(name, in_channels, out_channels, 1, 1, patches=images)
