"""The dense shortcut: skipped pixels end here, active ones in ``conv_scatter_add``."""

import triton
import triton.language as tl

from .tile import activate, conv_tile, split_pixel, wait_for_inputs


@triton.jit
def activate_skipped(
    value, mask, image, y, x, inside, height, width, S: tl.constexpr, LIMIT: tl.constexpr
):
    """The activation of the rows that lie in skipped patches: (BM, BN) -> (BM, BN)."""
    down, across = (height + S - 1) // S, (width + S - 1) // S
    patch = (image * down + y // S) * across + x // S
    active = tl.load(mask + patch, mask=inside, other=1.0) > 0
    return tl.where(active[:, None], value, activate(value, LIMIT))


@triton.jit(do_not_specialize=['height', 'width', 'out_height', 'out_width', 'total'])
def shortcut_conv(
    source,
    weight,
    bias,
    out,
    mask,
    height,
    width,
    out_height,
    out_width,
    total,
    CHANNELS: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP_IN: tl.constexpr,
    GROUP_OUT: tl.constexpr,
    DEPTH: tl.constexpr,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    S: tl.constexpr,
    LIMIT: tl.constexpr,
    PRECISION: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """The shortcut's convolution everywhere, activated where nothing will be added to it.

    Args:
        source: (N·height·width, CHANNELS) rows.
        out: (N·out_height·out_width, GROUPS·GROUP_OUT).
        mask: (patches,).
        total: N·out_height·out_width.
    """
    wait_for_inputs(PDL)
    tiles: tl.constexpr = (GROUP_OUT + BN - 1) // BN
    program = tl.program_id(0)
    tile = program % (GROUPS * tiles)
    pixel = program // (GROUPS * tiles) * BM + tl.arange(0, BM)
    inside = pixel < total
    image, y, x = split_pixel(pixel, out_height, out_width)
    group = tile // tiles
    channel_out = tile % tiles * BN
    acc = conv_tile(
        source, weight, image, y, x, inside, channel_out, group * GROUP_IN, height, width,
        CHANNELS, GROUP_IN, GROUP_OUT, DEPTH, KERNEL, STRIDE, DILATION,
        DILATION * (KERNEL // 2), PRECISION, BM, BN, BK,
    )  # fmt: skip
    columns = channel_out + tl.arange(0, BN)
    valid = inside[:, None] & (columns < GROUP_OUT)[None, :]
    columns += group * GROUP_OUT
    acc += tl.load(bias + columns, mask=columns < GROUPS * GROUP_OUT, other=0.0)[None, :]
    acc = activate_skipped(acc, mask, image, y, x, inside, out_height, out_width, S, LIMIT)
    target = out + pixel[:, None] * (GROUPS * GROUP_OUT) + columns[None, :]
    tl.store(target, acc.to(out.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=['height', 'width', 'total'])
def copy_identity(
    source,
    out,
    mask,
    height,
    width,
    total,
    CHANNELS: tl.constexpr,
    S: tl.constexpr,
    LIMIT: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Copy (total, CHANNELS) rows of x, activated where nothing will be added to them.

    Only needed where a block may not work in place on its input.
    """
    wait_for_inputs(PDL)
    tiles: tl.constexpr = (CHANNELS + BN - 1) // BN
    program = tl.program_id(0)
    pixel = program // tiles * BM + tl.arange(0, BM)
    columns = program % tiles * BN + tl.arange(0, BN)
    inside = pixel < total
    image, y, x = split_pixel(pixel, height, width)
    valid = inside[:, None] & (columns < CHANNELS)[None, :]
    offset = pixel[:, None] * CHANNELS + columns[None, :]
    value = tl.load(source + offset, mask=valid, other=0.0)
    value = activate_skipped(value, mask, image, y, x, inside, height, width, S, LIMIT)
    tl.store(out + offset, value, mask=valid)
