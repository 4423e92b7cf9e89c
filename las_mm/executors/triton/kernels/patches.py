"""From decisions to lists: the index of active pixels, appended to without a host (App. B.1)."""

import triton
import triton.language as tl


@triton.jit
def split_patch(patch, down, across):
    """Number of a patch -> image, row and column in the grid."""
    image = patch // (down * across)
    rest = patch - image * (down * across)
    row = rest // across
    return image, row, rest - row * across


@triton.jit
def decide(margin, decided, patch, exists, DECIDED: tl.constexpr):
    """Whether to keep each patch: its margin is >= 0, or ``decided`` says so if DECIDED.

    The margin is computed in either case, as replayed masks are to come at their real cost; that it
    equals itself is what no compiler may assume.
    """
    keep = margin >= 0
    if DECIDED:
        keep = (tl.load(decided + patch, mask=exists, other=0.0) > 0) & (margin == margin)
    return exists & keep


@triton.jit
def append_pixels(
    keep,
    image,
    row,
    column,
    pixels,
    count,
    height,
    width,
    S: tl.constexpr,
    AREA: tl.constexpr,
):
    """Append the pixels of kept patches to a list, patch by patch.

    Programs reserve a range each by one atomic addition. The order of the ranges differs from run
    to run, but nothing that is computed depends on it.

    Args:
        keep, image, row, column: (patches of this program,) decision and place of each patch.
        pixels, count: the list and its length so far.
        height, width: size of the map.
        AREA: S² rounded up to a power of two.
    """
    tall = tl.minimum(height - row * S, S)
    wide = tl.minimum(width - column * S, S)
    size = tl.where(keep, tall * wide, 0)
    end = tl.cumsum(size, 0)
    start = tl.atomic_add(count, tl.sum(size, 0))
    within = tl.arange(0, AREA)[None, :]
    dy, dx = within // S, within % S
    valid = keep[:, None] & (dy < tall[:, None]) & (dx < wide[:, None])
    place = start + (end - size)[:, None] + dy * wide[:, None] + dx
    pixel = (image * height + row * S)[:, None] * width + dy * width + column[:, None] * S + dx
    tl.store(pixels + place, pixel, mask=valid)
