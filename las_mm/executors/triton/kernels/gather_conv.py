"""Gather and convolution in one kernel (Sec. 3.4, "fusing the gather operation")."""

import triton
import triton.language as tl

from .tile import activate, conv_tile, split_pixel, wait_for_inputs


@triton.jit(
    do_not_specialize=['height', 'width', 'out_height', 'out_width'],
    do_not_specialize_on_alignment=['count'],
)
def gather_conv(
    source,
    weight,
    bias,
    out,
    pixels,
    count,
    height,
    width,
    out_height,
    out_width,
    CHANNELS: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP_IN: tl.constexpr,
    GROUP_OUT: tl.constexpr,
    DEPTH: tl.constexpr,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    COMPACT: tl.constexpr,
    PATCH: tl.constexpr,
    LIMIT: tl.constexpr,
    PRECISION: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """activate(conv(source) + bias) at the listed pixels.

    The halo of a patch is read from the map itself, so that overlapping halos are neither copied
    nor stored twice; pixels outside of the image count as zeros.

    Args:
        source: (N·height·width, CHANNELS), or with PATCH > 0 the copies of the unfused gather:
            (patches, edge, edge, CHANNELS), edge = (PATCH - 1) · STRIDE + (KERNEL - 1) · DILATION
            + 1, PATCH being the granularity S.
        out: rows in the order of the list if COMPACT, rows of the whole map otherwise.
        pixels, count: rows of the (N, out_height, out_width) map to compute, and how many.
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
    image, y, x = split_pixel(pixel, out_height, out_width)
    padding: tl.constexpr = DILATION * (KERNEL // 2)
    group = tile // tiles
    channel_out = tile % tiles * BN
    if PATCH == 0:
        acc = conv_tile(
            source, weight, image, y, x, inside, channel_out, group * GROUP_IN, height, width,
            CHANNELS, GROUP_IN, GROUP_OUT, DEPTH, KERNEL, STRIDE, DILATION, padding, PRECISION,
            BM, BN, BK,
        )  # fmt: skip
    else:
        edge: tl.constexpr = (PATCH - 1) * STRIDE + (KERNEL - 1) * DILATION + 1
        across = (out_width + PATCH - 1) // PATCH
        down = (out_height + PATCH - 1) // PATCH
        patch = (image * down + y // PATCH) * across + x // PATCH
        acc = conv_tile(
            source, weight, patch, y % PATCH, x % PATCH, inside, channel_out, group * GROUP_IN,
            edge, edge,
            CHANNELS, GROUP_IN, GROUP_OUT, DEPTH, KERNEL, STRIDE, DILATION, 0, PRECISION,
            BM, BN, BK,
        )  # fmt: skip
    columns = channel_out + tl.arange(0, BN)
    valid = columns < GROUP_OUT
    columns += group * GROUP_OUT
    acc = activate(acc + tl.load(bias + columns, mask=valid, other=0.0)[None, :], LIMIT)
    target = rows if COMPACT else pixel
    tl.store(
        out + target[:, None] * (GROUPS * GROUP_OUT) + columns[None, :],
        acc.to(out.dtype.element_ty),
        mask=inside[:, None] & valid[None, :],
    )
