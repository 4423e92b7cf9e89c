"""How many pixels a mask makes the convolutions of a block compute.

Symbols: S granularity, s stride of the 3x3 convolution, r activation rate (share of output pixels
computed), r_dilated dilated rate (share of conv1's output pixels that a 3x3 window of an active
pixel touches).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike

from .spec import KERNEL, BlockSpec

__all__ = ['active_patches', 'check_rate', 'expected_dilated_rate']


def check_rate(field: str, rate: ArrayLike) -> np.ndarray:
    """Return the rate(s) as float array, or raise ValueError unless all lie in [0, 1]."""
    try:
        values = np.asarray(rate, float)
    except (TypeError, ValueError):
        raise ValueError(f'{field} is {rate!r}: it must be a number from 0 to 1') from None
    bad = values[~((values >= 0) & (values <= 1))]
    if bad.size:
        raise ValueError(f'{field} is {bad.flat[0]:g}: it must lie from 0 to 1')
    return values


def active_patches(block: BlockSpec, activation_rate: ArrayLike, batch_size: int = 1) -> np.ndarray:
    """P: computed patches in a batch, r times the patches of the coarse mask, rounded up."""
    rows, columns = block.grid
    # Without the margin a rate that is an exact share of patches may round up by one patch.
    exact = np.asarray(activation_rate, float) * rows * columns
    return batch_size * np.ceil(exact - 1e-9)


def expected_dilated_rate(
    activation_rate: ArrayLike, granularity: int, stride: int = 1, dilation: int = 1
) -> np.ndarray:
    """Expected r_dilated when the patches of the coarse mask are active independently.

    A pixel of conv1's output is needed if any of the patches within reach of the 3x3 window is
    active; along one axis a pixel lies in reach of 1, 2 or (S = 1) 3 patches, and
    P(needed) = 1 - (1 - r)^(patches within reach). Real masks are smoother than independent
    patches, so this is an upper estimate: pass a measured rate where there is one.

    Args:
        activation_rate: r, scalar or array in [0, 1].
        granularity: S in output pixels.
        stride, dilation: of the 3x3 convolution.
    """
    rate = np.asarray(activation_rate, float)[..., None, None]
    in_reach = _patches_in_reach(granularity, stride, dilation)
    needed = 1 - (1 - rate) ** (in_reach[:, None] * in_reach[None, :])
    return needed.mean((-2, -1))


@functools.cache
def _patches_in_reach(granularity: int, stride: int, dilation: int) -> np.ndarray:
    """For each pixel of one patch edge (sS pixels of conv1's output): patches that may need it."""
    pixels = np.arange(granularity * stride)
    outputs = np.arange(-granularity - dilation, 2 * granularity + dilation)
    taps = (np.arange(KERNEL) - KERNEL // 2) * dilation
    reads = outputs[:, None] * stride + taps  # pixels read by each output
    needs = (reads[:, :, None] == pixels).any(1)  # output, pixel
    owner = outputs // granularity
    return np.array([len(set(owner[needs[:, p]])) for p in pixels], float)
