"""Which shares of its work a block runs at, and how many pixels a mask makes it compute.

Symbols: S granularity, s stride of the convolution that reads around active pixels, r activation
rate (share of output pixels computed), r_dilated dilated rate (share of its input pixels that this
convolution touches).
"""

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from .checks import check_rate, require_one_of
from .encoder_spec import EncoderSpec
from .spec import DILATED, SHARES, BlockSpec

# Shares by name, each a number or one for each case; or one number for all that is decided on.
Shares = Mapping[str, ArrayLike] | ArrayLike | None


def named_shares(block: BlockSpec | EncoderSpec, shares: Shares) -> dict[str, np.ndarray]:
    """The shares that a block decides on, as arrays of one length (R,), by name.

    Args:
        block: The block.
        shares: By name; those that it does not decide on are not looked at. ``'dilated'`` may be
            left out. A number, or one for each case, stands for every decision.

    Raises:
        ValueError: If a share is missing, unknown or not in [0, 1].
    """
    given = shares if isinstance(shares, Mapping) else dict.fromkeys(block.decided, shares)
    optional = {DILATED} if isinstance(shares, Mapping) else set()
    for name in given:
        require_one_of('shares', name, SHARES)
    wanted = [name for name in SHARES if name in block.decided and (name != DILATED or optional)]
    found = {}
    for name in wanted:
        share = given.get(name)
        if share is None and name in optional:
            continue
        if share is None:
            raise ValueError(
                f'block {block.name!r}, {name}: got None; give the share that runs, from 0 to 1'
            )
        found[name] = np.atleast_1d(check_rate(f'block {block.name!r}, {name}', share))
    return dict(zip(found, np.broadcast_arrays(*found.values()), strict=True)) if found else {}


def active_patches(block: BlockSpec, activation_rate: ArrayLike, batch_size: int = 1) -> np.ndarray:
    """P: computed patches in a batch, r times the patches of the coarse mask, rounded up."""
    rows, columns = block.grid
    # Without the margin a rate that is an exact share of patches may round up by one patch.
    exact = np.asarray(activation_rate, float) * rows * columns
    return batch_size * np.ceil(exact - 1e-9)


def expected_dilated_rate(
    activation_rate: ArrayLike,
    granularity: int,
    stride: int = 1,
    dilation: int = 1,
    kernel: int = 3,
) -> np.ndarray:
    """Expected r_dilated when the patches of the coarse mask are active independently.

    A pixel is needed if any of the patches within reach of the window is active; along one axis a
    pixel lies in reach of 1, 2 or (S = 1) 3 patches, and P(needed) = 1 - (1 - r)^(patches within
    reach). Real masks are smoother than independent patches, so this is an upper estimate: give a
    measured share where there is one.

    Args:
        activation_rate: r, scalar or array in [0, 1].
        granularity: S in output pixels.
        stride: Of the convolution that reads.
        dilation: Of the same.
        kernel: Edge of its window.
    """
    rate = np.asarray(activation_rate, float)[..., None, None]
    in_reach = _patches_in_reach(granularity, stride, dilation, kernel)
    needed = 1 - (1 - rate) ** (in_reach[:, None] * in_reach[None, :])
    return needed.mean((-2, -1))


def block_dilated_rate(block: BlockSpec, activation_rate: ArrayLike) -> np.ndarray:
    """:func:`expected_dilated_rate` of a block; r itself where no layer runs at dilated pixels."""
    if block.dilated is None:
        return np.asarray(activation_rate, float)
    reader = block.reader
    geometry = reader.stride, reader.dilation, reader.kernel
    return expected_dilated_rate(activation_rate, block.patch, *geometry)


@functools.cache
def _patches_in_reach(granularity: int, stride: int, dilation: int, kernel: int) -> np.ndarray:
    """For each pixel of one patch edge (sS pixels that are read): patches that may need it."""
    pixels = np.arange(granularity * stride)
    half = kernel // 2 * dilation
    outputs = np.arange(-granularity - half, 2 * granularity + half)
    taps = (np.arange(kernel) - kernel // 2) * dilation
    reads = outputs[:, None] * stride + taps  # pixels read by each output
    needs = (reads[:, :, None] == pixels).any(1)  # output, pixel
    owner = outputs // granularity
    return np.array([len(set(owner[needs[:, p]])) for p in pixels], float)
