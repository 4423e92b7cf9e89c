"""Masker and first convolution in one kernel (Sec. 3.4, App. B.1: C + 1 outputs)."""

import triton
import triton.language as tl

from .patches import append_pixels, decide, split_patch
from .tile import activate, wait_for_inputs


@triton.jit(
    do_not_specialize=['height', 'width', 'out_height', 'out_width', 'down', 'across', 'patches'],
    do_not_specialize_on_alignment=['count'],
)
def masker_conv1(
    x,
    weight,
    bias,
    masker_weight,
    masker_bias,
    hidden,
    mask,
    decided,
    pixels,
    count,
    height,
    width,
    out_height,
    out_width,
    down,
    across,
    patches,
    CHANNELS: tl.constexpr,
    OUT: tl.constexpr,
    DEPTH: tl.constexpr,
    WINDOW: tl.constexpr,
    WINDOW_AREA: tl.constexpr,
    S: tl.constexpr,
    AREA: tl.constexpr,
    DECIDED: tl.constexpr,
    LIMIT: tl.constexpr,
    PRECISION: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Dense activate(conv1(x) + bias), the mask and the list of active pixels, from one read of x.

    The rows of a tile are whole patches, so that the pooled margin never leaves the registers: no
    logits are written, and no other kernel is needed before the second convolution.

    Args:
        x: (N·height·width, CHANNELS) rows.
        weight: (OUT, DEPTH), DEPTH being CHANNELS padded with zeros.
        masker_weight: (DEPTH,) difference of the two weight rows (Eq. 3) in double.
        masker_bias: (1,) difference of the two biases in double.
        hidden: (N·height·width, OUT).
        mask: (patches,).
        decided: (patches,) mask to take instead of the own decision if DECIDED.
        pixels, count: list of the active pixels of the (N, out_height, out_width) output.
        down, across, patches: size of the grid of patches, and N·down·across.
        WINDOW: edge of a patch in x, S times the stride of the block.
        WINDOW_AREA, AREA: WINDOW² and S² rounded up to powers of two; WINDOW_AREA divides BM.
    """
    wait_for_inputs(PDL)
    tiles: tl.constexpr = (OUT + BN - 1) // BN
    program = tl.program_id(0)
    tile = program % tiles
    first_patch = program // tiles * (BM // WINDOW_AREA)
    rows = tl.arange(0, BM)
    image, row, column = split_patch(first_patch + rows // WINDOW_AREA, down, across)
    within = rows % WINDOW_AREA
    py = row * WINDOW + within // WINDOW
    px = column * WINDOW + within % WINDOW
    inside = (first_patch + rows // WINDOW_AREA < patches) & (within < WINDOW * WINDOW)
    inside = inside & (py < height) & (px < width)
    pixel = (image * height + py) * width + px

    columns = tile * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.float32)
    margin = tl.zeros((BM,), tl.float64)
    for start in range(0, DEPTH, BK):
        valid = inside[:, None]
        if CHANNELS != DEPTH:
            valid = valid & (start + k < CHANNELS)[None, :]
        a = tl.load(x + pixel[:, None] * CHANNELS + (start + k)[None, :], mask=valid, other=0.0)
        b = tl.load(
            weight + columns[None, :] * DEPTH + (start + k)[:, None],
            mask=(columns < OUT)[None, :],
            other=0.0,
        )
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
        if tile == 0:
            difference = tl.load(masker_weight + start + k)
            margin += tl.sum(a.to(tl.float32).to(tl.float64) * difference[None, :], 1)
    acc = activate(acc + tl.load(bias + columns, mask=columns < OUT, other=0.0)[None, :], LIMIT)
    tl.store(
        hidden + pixel[:, None] * OUT + columns[None, :],
        acc.to(hidden.dtype.element_ty),
        mask=inside[:, None] & (columns < OUT)[None, :],
    )
    if tile == 0:
        margin += tl.where(inside, tl.load(masker_bias), 0.0)
        pooled = tl.sum(tl.reshape(margin, (BM // WINDOW_AREA, WINDOW_AREA)), 1)
        patch = first_patch + tl.arange(0, BM // WINDOW_AREA)
        exists = patch < patches
        keep = decide(pooled, decided, patch, exists, DECIDED)
        tl.store(mask + patch, tl.where(keep, 1.0, 0.0).to(mask.dtype.element_ty), mask=exists)
        where = split_patch(patch, down, across)
        append_pixels(
            keep, where[0], where[1], where[2], pixels, count, out_height, out_width, S, AREA
        )
