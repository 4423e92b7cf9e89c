"""Depthwise convolution at listed pixels: nothing to multiply as matrices, channel by channel."""

import triton
import triton.language as tl

from .tile import activate, split_pixel, wait_for_inputs


@triton.jit(
    do_not_specialize=['height', 'width', 'out_height', 'out_width'],
    do_not_specialize_on_alignment=['count'],
)
def depthwise_conv(
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
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    COMPACT: tl.constexpr,
    PATCH: tl.constexpr,
    LIMIT: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """activate(conv(source) + bias) at the listed pixels, products and sums in float32.

    Args:
        source: (N·height·width, CHANNELS), or copies of patches, see :func:`gather_conv`.
        weight: (KERNEL², CHANNELS).
        out: Rows in the order of the list if COMPACT, rows of the whole map otherwise.
        pixels, count: Rows of the (N, out_height, out_width) map to compute, and how many.
    """
    wait_for_inputs(PDL)
    tiles: tl.constexpr = (CHANNELS + BN - 1) // BN
    program = tl.program_id(0)
    first = program // tiles * BM
    total = tl.load(count)
    if first >= total:
        return
    rows = first + tl.arange(0, BM)
    inside = rows < total
    pixel = tl.load(pixels + rows, mask=inside, other=0)
    map_number, y, x = split_pixel(pixel, out_height, out_width)
    top, left = y * STRIDE, x * STRIDE
    if PATCH == 0:
        down, across = height, width
        top -= DILATION * (KERNEL // 2)
        left -= DILATION * (KERNEL // 2)
    else:
        edge: tl.constexpr = (PATCH - 1) * STRIDE + (KERNEL - 1) * DILATION + 1
        grid_width = (out_width + PATCH - 1) // PATCH
        grid_height = (out_height + PATCH - 1) // PATCH
        map_number = (map_number * grid_height + y // PATCH) * grid_width + x // PATCH
        top, left = y % PATCH * STRIDE, x % PATCH * STRIDE
        down, across = edge, edge
    columns = program % tiles * BN + tl.arange(0, BN)
    exists = columns < CHANNELS
    acc = tl.zeros((BM, BN), tl.float32) + tl.load(bias + columns, mask=exists, other=0.0)[None, :]
    for tap in range(0, KERNEL * KERNEL):
        row, column = top + tap // KERNEL * DILATION, left + tap % KERNEL * DILATION
        valid = inside & (row >= 0) & (row < down) & (column >= 0) & (column < across)
        place = (map_number * down + row) * across + column
        value = tl.load(
            source + place[:, None] * CHANNELS + columns[None, :],
            mask=valid[:, None] & exists[None, :],
            other=0.0,
        )
        factor = tl.load(weight + tap * CHANNELS + columns, mask=exists, other=0.0)
        acc += value.to(tl.float32) * factor.to(tl.float32)[None, :]
    target = rows if COMPACT else pixel
    tl.store(
        out + target[:, None] * CHANNELS + columns[None, :],
        activate(acc, LIMIT).to(out.dtype.element_ty),
        mask=inside[:, None] & exists[None, :],
    )
