"""From margins to the mask and the lists of active pixels and of those the first conv must do."""

import triton
import triton.language as tl

from .patches import append_pixels, decide, split_patch
from .tile import wait_for_inputs


@triton.jit(
    do_not_specialize=[
        'conv1_height', 'conv1_width', 'height', 'width', 'down', 'across', 'patches', 'following'
    ],
    do_not_specialize_on_alignment=['margins', 'counts', 'following_margins', 'following_bias'],
)  # fmt: skip
def index(
    margins,
    mask,
    decided,
    pixels,
    needed,
    counts,
    following_margins,
    following_bias,
    conv1_height,
    conv1_width,
    height,
    width,
    down,
    across,
    patches,
    following,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    S: tl.constexpr,
    AREA: tl.constexpr,
    WINDOW: tl.constexpr,
    WINDOW_AREA: tl.constexpr,
    DECIDED: tl.constexpr,
    PDL: tl.constexpr,
    BP: tl.constexpr,
):
    """Decide the patches; list what the last and what the first convolution must compute.

    Args:
        margins: (patches,) in double; a patch is kept where it is >= 0, so that a tie keeps.
        mask: (patches,).
        decided: (patches,) mask to take instead of the margins' if DECIDED.
        pixels: list of the active pixels of the (N, height, width) output.
        needed: list of the pixels of the (N, conv1_height, conv1_width) map which the second
            convolution (KERNEL, STRIDE, DILATION) reads: the mask, spread and dilated.
        counts: (2,) lengths of the two lists.
        following_margins, following_bias: (following, patches) and (following,) in double: margins
            of following blocks, set to their bias for kept patches, see ``conv_scatter_add``.
        WINDOW: edge of a patch in the first convolution's map, S · STRIDE.
        AREA, WINDOW_AREA: S² and WINDOW² rounded up to powers of two.
        BP: patches of a program.
    """
    wait_for_inputs(PDL)
    patch = tl.program_id(0) * BP + tl.arange(0, BP)
    exists = patch < patches
    margin = tl.load(margins + patch, mask=exists, other=0.0)
    keep = decide(margin, decided, patch, exists, DECIDED)
    tl.store(mask + patch, tl.where(keep, 1.0, 0.0).to(mask.dtype.element_ty), mask=exists)
    image, row, column = split_patch(patch, down, across)
    append_pixels(keep, image, row, column, pixels, counts, height, width, S, AREA)
    size = tl.minimum(height - row * S, S) * tl.minimum(width - column * S, S)
    for block in range(0, following):
        start = tl.load(following_bias + block) * size
        tl.store(following_margins + block * patches + patch, start, mask=keep)
    within = tl.arange(0, WINDOW_AREA)[None, :]
    y = row[:, None] * WINDOW + within // WINDOW
    x = column[:, None] * WINDOW + within % WINDOW
    inside = exists[:, None] & (within < WINDOW * WINDOW)
    inside = inside & (y < conv1_height) & (x < conv1_width)
    read = tl.zeros((BP, WINDOW_AREA), tl.int32)
    for tap in range(0, KERNEL * KERNEL):
        # The output pixel that has this one under its tap, where there is one.
        top = y - (tap // KERNEL - KERNEL // 2) * DILATION
        left = x - (tap % KERNEL - KERNEL // 2) * DILATION
        hit = inside & (top >= 0) & (left >= 0) & (top % STRIDE == 0) & (left % STRIDE == 0)
        top, left = top // STRIDE, left // STRIDE
        hit = hit & (top < height) & (left < width)
        other = (image[:, None] * down + top // S) * across + left // S
        theirs = tl.load(margins + other, mask=hit, other=0.0)
        read += decide(theirs, decided, other, hit, DECIDED).to(tl.int32)
    flat = tl.reshape((read > 0).to(tl.int32), (BP * WINDOW_AREA,))
    pixel = tl.reshape((image[:, None] * conv1_height + y) * conv1_width + x, (BP * WINDOW_AREA,))
    place = tl.cumsum(flat, 0) - 1 + tl.atomic_add(counts + 1, tl.sum(flat, 0))
    tl.store(needed + place, pixel, mask=flat > 0)
