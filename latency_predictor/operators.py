"""The operators of static and dynamic blocks: what each computes and which data it moves.

An ``Operator`` is a count of elements, free of any device. ``schedule.schedule`` gives its latency.
Sizes named height and width are outputs of *one patch*; static operators have one patch per image.
Every factory takes ``patches``, P over the whole batch, scalar or array.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

__all__ = [
    'Move',
    'Operator',
    'add',
    'channel_dynamic_convolution',
    'convolution',
    'dynamic_convolution',
    'fully_connected',
    'gather',
    'global_pool',
    'indexing',
    'masker',
    'pooling',
    'scale',
    'scatter',
    'scatter_add',
    'with_addition',
]


Count = float | np.ndarray  # one number, or one for each activation rate (R,)
Size = tuple[int, int]  # height and width


@dataclass(frozen=True)
class Move:
    """One tensor a tile moves between on-chip memory and its processing engine, per patch.

    Attributes:
        pitch: elements from one row of the stored tensor to the next; with the tile's width it
            gives the gap between two contiguous runs.
        window, stride: a tile edge of T outputs touches (T - 1) stride + window elements.
        group_channels: input channels of one group of a convolution; None where the tile moves just
            its own channels (elementwise operators and all outputs).
        groups: groups of that convolution.
        depth: elements of the tensor behind each touched element (a whole map for a mean).
    """

    pitch: int
    window: int = 1
    stride: int = 1
    group_channels: float | None = None
    groups: int = 1
    depth: int = 1

    def elements(
        self, all_channels: int, channels: np.ndarray, height: np.ndarray, width: np.ndarray
    ) -> np.ndarray:
        """Elements for tiles of channels x height x width outputs out of ``all_channels``."""
        rows, columns = ((edge - 1) * self.stride + self.window for edge in (height, width))
        area = rows * columns * self.depth
        if self.group_channels is None:
            return channels * area
        return np.ceil(channels * self.groups / all_channels) * self.group_channels * area


@dataclass(frozen=True)
class Operator:
    """What one kernel computes and moves.

    Attributes:
        name: shown in the breakdown.
        patches: P, how many patches of output there are in the batch; scalar or array (R,).
        channels, height, width: outputs of one patch, C x S1 x S2.
        macs_per_output: K, multiply-accumulates (or other lane operations) for one output.
        offchip: elements moved between off-chip and on-chip memory, all patches together.
        moves: tensors a tile moves between on-chip memory and its engine.
        weights_per_channel: weights a tile loads for each of its output channels.
        working_set: elements of the tensors that ``offchip`` is a part of, whole maps; None where
            the operator touches all of them.
        distinct_input: elements that the first of ``moves`` touches in all patches together,
            overlaps counted once; None if they do not overlap or it is not known.
        padding_share: share of the multiply-accumulates that multiply zero padding.
        winograd_share: lane operations of Winograd's algorithm per multiply-accumulate of the usual
            one, at most 1; None where there is no such algorithm.
        is_patch: True where the patch is an S x S cut of a map, False for a whole map.
        launches: kernels started.
    """

    name: str
    patches: Count
    channels: int
    height: int
    width: int
    macs_per_output: float
    offchip: Count
    moves: tuple[Move, ...]
    weights_per_channel: float = 0.0
    working_set: Count | None = None
    distinct_input: Count | None = None
    padding_share: float = 0.0
    winograd_share: Count | None = None
    is_patch: bool = False
    launches: int = 1


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
    read = Move(width, (kernel - 1) * dilation + 1, stride, group_channels, groups)
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
        distinct_rate: share of the source map that all patches with their halos cover together;
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
            group_channels,
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


def channel_dynamic_convolution(
    name: str,
    in_channels: int,
    out_channels: int,
    height: int,
    width: int,
    in_rate: float,
    out_rate: float,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    granularity: int = 1,
    patches: Count = 1,
) -> Operator:
    """Convolution that reads and computes a share of the channels (channel skipping).

    Channels are skipped in groups of ``granularity``; the active ones are stored together, so that
    what remains is a narrower convolution.

    Args:
        in_rate, out_rate: share of active input and output channels, scalars in [0, 1].
    """

    def active(channels: int, rate: float) -> int:
        return max(
            1, min(channels, int(np.ceil(rate * channels / granularity - 1e-9)) * granularity)
        )

    if groups > 1:  # a group is skipped as a whole: its inputs and outputs go together
        kept = max(1, int(np.ceil(out_rate * groups - 1e-9)))
        in_kept, out_kept = in_channels // groups * kept, out_channels // groups * kept
        return convolution(
            name, in_kept, out_kept, height, width, kernel, stride, kept, patches=patches
        )
    return convolution(
        name,
        active(in_channels, in_rate),
        active(out_channels, out_rate),
        height,
        width,
        kernel,
        stride,
        patches=patches,
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


def indexing(grid: Size, patches: Count, batch_size: int = 1) -> Operator:
    """Turn the coarse mask, ``grid`` = (rows, columns), into the indices of its active patches."""
    rows, columns = grid
    images = np.full(np.shape(patches), float(batch_size))
    return Operator(
        'indexing',
        images,
        1,
        rows,
        columns,
        1.0,
        batch_size * rows * columns + patches,
        (Move(columns), Move(columns)),
    )


def gather(
    name: str, channels: int, patch: Size, patches: Count, source: Size, batch_size: int = 1
) -> Operator:
    """Copy P patches of ``patch`` out of a map of ``source``, both (height, width)."""
    height, width = patch
    size = channels * height * width
    read = np.minimum(size * patches, batch_size * channels * source[0] * source[1])
    return Operator(
        name,
        patches,
        channels,
        height,
        width,
        1.0,
        read + size * patches,
        (Move(source[1]), Move(width)),
        is_patch=True,
    )


def scatter(
    channels: int, patch: Size, patches: Count, target: Size, batch_size: int = 1
) -> Operator:
    """Copy P dense patches to their places in a map of ``target`` filled with zeros."""
    height, width = patch
    whole = batch_size * channels * target[0] * target[1]
    return Operator(
        'scatter',
        patches,
        channels,
        height,
        width,
        1.0,
        channels * height * width * patches + whole,
        (Move(width), Move(target[1])),
        is_patch=True,
    )


def add(channels: int, height: int, width: int, patches: Count = 1) -> Operator:
    """Residual addition (and ReLU) over a whole map: two maps read, one written."""
    size = channels * height * width
    return Operator(
        'add',
        patches,
        channels,
        height,
        width,
        1.0,
        3 * size * patches,
        (Move(width), Move(width), Move(width)),
    )


def scatter_add(
    channels: int, patch: Size, patches: Count, target: Size, batch_size: int = 1
) -> Operator:
    """Add P dense patches to the identity at their places (fused scatter and add).

    The identity is read and the output written whole: skipped pixels carry ReLU(identity).
    """
    height, width = patch
    whole = batch_size * channels * target[0] * target[1]
    return Operator(
        'scatter_add',
        patches,
        channels,
        height,
        width,
        1.0,
        channels * height * width * patches + 2 * whole,
        (Move(width), Move(target[1]), Move(target[1])),
        is_patch=True,
    )


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


def fully_connected(name: str, in_channels: int, out_channels: int, images: int = 1) -> Operator:
    """Fully connected layer: a 1x1 convolution on a 1 x 1 map."""
    return convolution(name, in_channels, out_channels, 1, 1, patches=images)
