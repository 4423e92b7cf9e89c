"""A convolution of some channels of an image at some of its pixels (LAUDNet's channel skipping)."""

import triton
import triton.language as tl

from .tile import split_pixel, wait_for_inputs


@triton.jit
def outside(first, size, KERNEL: tl.constexpr, DILATION: tl.constexpr):
    """Which taps of a line lie outside on either side: a number below (KERNEL // 2 + 1)²."""
    before = (tl.maximum(-first, 0) + DILATION - 1) // DILATION
    last = first + (KERNEL - 1) * DILATION
    behind = (tl.maximum(last - size + 1, 0) + DILATION - 1) // DILATION
    return before * (KERNEL // 2 + 1) + behind


@triton.jit(
    do_not_specialize=['height', 'width', 'out_height', 'out_width'],
    do_not_specialize_on_alignment=['count', 'inputs', 'in_count', 'outputs', 'out_count'],
)
def channel_conv(
    source,
    weight,
    bias,
    out,
    pixels,
    count,
    inputs,
    in_count,
    outputs,
    out_count,
    height,
    width,
    out_height,
    out_width,
    CHANNELS: tl.constexpr,
    OUT: tl.constexpr,
    OUT_STEP: tl.constexpr,
    TAP_STEP: tl.constexpr,
    IN_STEP: tl.constexpr,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    SOME_INPUTS: tl.constexpr,
    SOME_OUTPUTS: tl.constexpr,
    EDGES: tl.constexpr,
    LISTED: tl.constexpr,
    COMPACT: tl.constexpr,
    ADD: tl.constexpr,
    PRECISION: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """relu(conv(source) + bias [+ out]), of listed channels at listed pixels.

    Active channels stand one after another at the start of a row; which they are say the lists, in
    whose order weights are read. Programs beyond the lists end at once: the host knows no number.

    Args:
        source: (height·width, CHANNELS) rows; in the order of ``pixels`` if LISTED (of a 1×1).
        weight: that of output o, tap t and input i at o·OUT_STEP + t·TAP_STEP + i·IN_STEP.
        bias: (classes, OUT) with what skipped inputs add through the taps inside of the image: a
            row for every way of taps to lie outside if EDGES, one row otherwise.
        out: (.., OUT) rows in the order of the list if COMPACT, of the whole map otherwise. With
            ADD it holds the identity of all channels, to which the convolution is added.
        inputs, in_count: channels that the columns of ``source`` are, if SOME_INPUTS.
        outputs, out_count: channels to compute, if SOME_OUTPUTS.
    """
    wait_for_inputs(PDL)
    tiles: tl.constexpr = (OUT + BN - 1) // BN
    program = tl.program_id(0)
    first = program // tiles * BM
    first_out = program % tiles * BN
    total = tl.load(count)
    outs = OUT
    if SOME_OUTPUTS:
        outs = tl.load(out_count)
    if (first >= total) | (first_out >= outs):
        return
    ins = CHANNELS
    if SOME_INPUTS:
        ins = tl.load(in_count)
    rows = first + tl.arange(0, BM)
    inside = rows < total
    pixel = tl.load(pixels + rows, mask=inside, other=0)
    _, y, x = split_pixel(pixel, out_height, out_width)
    top = y * STRIDE - DILATION * (KERNEL // 2)
    left = x * STRIDE - DILATION * (KERNEL // 2)
    columns = first_out + tl.arange(0, BN)
    wanted = columns < outs
    channel = columns
    if SOME_OUTPUTS:
        channel = tl.load(outputs + columns, mask=wanted, other=0)
    k = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.float32)
    per_tap = (ins + BK - 1) // BK
    for step in range(0, KERNEL * KERNEL * per_tap):
        tap = step // per_tap
        place = step % per_tap * BK + k
        known = place < ins
        row = top + tap // KERNEL * DILATION
        column = left + tap % KERNEL * DILATION
        valid = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        at = row * width + column
        if LISTED:
            valid, at = inside, rows
        a = tl.load(
            source + at[:, None] * CHANNELS + place[None, :],
            mask=valid[:, None] & known[None, :],
            other=0.0,
        )
        number = place
        if SOME_INPUTS:
            number = tl.load(inputs + place, mask=known, other=0)
        b = tl.load(
            weight + channel[None, :] * OUT_STEP + tap * TAP_STEP + number[:, None] * IN_STEP,
            mask=known[:, None] & wanted[None, :],
            other=0.0,
        )
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    if EDGES:
        sides: tl.constexpr = (KERNEL // 2 + 1) * (KERNEL // 2 + 1)
        kind = outside(top, height, KERNEL, DILATION) * sides
        kind += outside(left, width, KERNEL, DILATION)
        acc += tl.load(
            bias + kind[:, None] * OUT + channel[None, :],
            mask=inside[:, None] & wanted[None, :],
            other=0.0,
        )
    else:
        acc += tl.load(bias + channel, mask=wanted, other=0.0)[None, :]
    place = pixel
    if COMPACT:
        place = rows
    target = out + place[:, None] * OUT + columns[None, :]
    valid = inside[:, None] & wanted[None, :]
    if ADD:
        acc += tl.load(target, mask=valid, other=0.0).to(tl.float32)
    tl.store(target, tl.maximum(acc, 0.0).to(out.dtype.element_ty), mask=valid)
