"""Operators that move and add what others computed: gather, scatter, addition, concatenation.

Every factory takes ``patches``, P over the whole batch, scalar or array.
"""

import numpy as np

from .operator import Count, Move, Operator, Size


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


def concatenation(channels: int, height: int, width: int, patches: Count = 1) -> Operator:
    """Copy several maps into one, with a norm and an activation on the way."""
    size = channels * height * width
    moves = Move(width), Move(width)
    return Operator('concat', patches, channels, height, width, 1.0, 2 * size * patches, moves)
