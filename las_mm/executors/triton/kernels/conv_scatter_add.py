"""Last convolution, scatter, sum and activation in one kernel (Sec. 3.4), and the next margins."""

import triton
import triton.language as tl

from .tile import activate, conv_tile, split_pixel, wait_for_inputs


@triton.jit
def update_margins(
    value,
    rows_patch,
    inside,
    weight,
    margins,
    first_column,
    following,
    patches,
    DEPTH: tl.constexpr,
    RUN: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Add this tile's share of the margins of the following blocks, in double precision.

    A block changes its active patches only, and a margin is linear in the features: the margins of
    skipped patches stay as they are, those of active ones were set to their bias by ``index``.

    Args:
        value: (BM, BN) new features, rounded as they were stored, zero where there is none.
        rows_patch: (BM,) patch of each row.
        weight: (following, DEPTH) masker weights of the following blocks, in double.
        margins: (following, patches) in double.
        RUN: rows that are known to share a patch, a power of two.
    """
    exact = value.to(tl.float32).to(tl.float64)
    columns = first_column + tl.arange(0, BN)
    patch = tl.max(tl.reshape(rows_patch, (BM // RUN, RUN)), 1)
    any_row = tl.max(tl.reshape(inside.to(tl.int32), (BM // RUN, RUN)), 1) > 0
    for block in range(0, following):
        row = tl.load(weight + block * DEPTH + columns, mask=columns < DEPTH, other=0.0)
        share = tl.sum(exact * row[None, :], 1)
        share = tl.sum(tl.reshape(share, (BM // RUN, RUN)), 1)
        tl.atomic_add(margins + block * patches + patch, share, mask=any_row, sem='relaxed')


@triton.jit(
    do_not_specialize=['height', 'width', 'out_height', 'out_width', 'following', 'patches'],
    do_not_specialize_on_alignment=['margins', 'count'],
)
def conv_scatter_add(
    source,
    weight,
    bias,
    out,
    pixels,
    count,
    masker_weight,
    margins,
    height,
    width,
    out_height,
    out_width,
    following,
    patches,
    CHANNELS: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP_IN: tl.constexpr,
    GROUP_OUT: tl.constexpr,
    DEPTH: tl.constexpr,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    COMPACT: tl.constexpr,
    SCATTER_ADD: tl.constexpr,
    FOLLOWING: tl.constexpr,
    MASKER_DEPTH: tl.constexpr,
    S: tl.constexpr,
    RUN: tl.constexpr,
    LIMIT: tl.constexpr,
    PRECISION: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """out[pixels] = activate(out[pixels] + conv(source) + bias), in place on the residual.

    Args:
        source: (count, CHANNELS) rows in the order of the list if COMPACT (a bottleneck's 1×1),
            the (N·height·width, CHANNELS) map otherwise (a basic block's 3×3).
        out: (N·out_height·out_width, GROUPS·GROUP_OUT); holds the identity. With SCATTER_ADD
            False, rows in the order of the list that just receive conv(source) + bias.
        pixels, count: rows of ``out``, and how many.
        masker_weight, margins, following, patches: see :func:`update_margins`; used if FOLLOWING.
    """
    wait_for_inputs(PDL)
    tiles: tl.constexpr = (GROUP_OUT + BN - 1) // BN
    program = tl.program_id(0)
    tile = program % (GROUPS * tiles)
    first = program // (GROUPS * tiles) * BM
    total = tl.load(count)
    if first >= total:
        return
    rows = first + tl.arange(0, BM)
    inside = rows < total
    pixel = tl.load(pixels + rows, mask=inside, other=0)
    group = tile // tiles
    channel_out = tile % tiles * BN
    image, y, x = split_pixel(pixel, out_height, out_width)
    if COMPACT:
        nowhere = tl.zeros((BM,), tl.int32)
        acc = conv_tile(
            source, weight, nowhere, nowhere, rows, inside, channel_out, group * GROUP_IN,
            1, total,
            CHANNELS, GROUP_IN, GROUP_OUT, DEPTH, 1, 1, 1, 0, PRECISION, BM, BN, BK,
        )  # fmt: skip
    else:
        acc = conv_tile(
            source, weight, image, y, x, inside, channel_out, group * GROUP_IN, height, width,
            CHANNELS, GROUP_IN, GROUP_OUT, DEPTH, KERNEL, STRIDE, DILATION,
            DILATION * (KERNEL // 2), PRECISION, BM, BN, BK,
        )  # fmt: skip
    columns = channel_out + tl.arange(0, BN)
    valid = inside[:, None] & (columns < GROUP_OUT)[None, :]
    columns += group * GROUP_OUT
    acc += tl.load(bias + columns, mask=columns < GROUPS * GROUP_OUT, other=0.0)[None, :]
    if SCATTER_ADD:
        target = out + pixel[:, None] * (GROUPS * GROUP_OUT) + columns[None, :]
        acc += tl.load(target, mask=valid, other=0.0).to(tl.float32)
        value = tl.where(valid, activate(acc, LIMIT), 0.0).to(out.dtype.element_ty)
        tl.store(target, value, mask=valid)
        if FOLLOWING:
            across = (out_width + S - 1) // S
            down = (out_height + S - 1) // S
            patch = (image * down + y // S) * across + x // S
            update_margins(
                value, patch, inside, masker_weight, margins, group * GROUP_OUT + channel_out,
                following, patches, MASKER_DEPTH, RUN, BM, BN,
            )  # fmt: skip
    else:
        target = out + rows[:, None] * (GROUPS * GROUP_OUT) + columns[None, :]
        tl.store(target, acc.to(out.dtype.element_ty), mask=valid)
