"""Squeeze-and-excitation over the active pixels, without a host: sums, two layers, scaling."""

import triton
import triton.language as tl

from .tile import split_pixel, wait_for_inputs


@triton.jit(do_not_specialize=['height', 'width'], do_not_specialize_on_alignment=['count'])
def sum_active(
    rows,
    pixels,
    count,
    sums,
    height,
    width,
    CHANNELS: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Add the rows of each image's active pixels, in double: their order varies from run to run.

    Args:
        rows: (count, CHANNELS) in the order of the list.
        pixels, count: rows of the (N, height, width) map, and how many.
        sums: (N, CHANNELS + 1) zeros; the last entry becomes the number of the image's rows.
    """
    wait_for_inputs(PDL)
    tiles: tl.constexpr = (CHANNELS + BN) // BN  # of one column more than channels
    program = tl.program_id(0)
    first = program // tiles * BM
    total = tl.load(count)
    if first >= total:
        return
    listed = first + tl.arange(0, BM)
    inside = listed < total
    columns = program % tiles * BN + tl.arange(0, BN)
    pixel = tl.load(pixels + tl.minimum(listed, total - 1))
    image, _y, _x = split_pixel(pixel, height, width)
    value = tl.load(
        rows + listed[:, None] * CHANNELS + columns[None, :],
        mask=inside[:, None] & (columns < CHANNELS)[None, :],
        other=0.0,
    )
    exact = tl.where((columns == CHANNELS)[None, :], 1.0, value.to(tl.float32)).to(tl.float64)
    # A list is a sequence of patches: a program's rows are of few images, mostly of one.
    for number in range(tl.min(image, 0), tl.max(image, 0) + 1):
        here = inside & (image == number)
        share = tl.sum(tl.where(here[:, None], exact, 0.0), 0)
        target = sums + number * (CHANNELS + 1) + columns
        tl.atomic_add(target, share, mask=columns <= CHANNELS, sem='relaxed')


@triton.jit
def gate_layer(
    source,
    weight,
    bias,
    out,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    SQUEEZE: tl.constexpr,
    PDL: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """relu(W · mean + b) if SQUEEZE, else sigmoid(W · source + b), for an image and BN outputs.

    Args:
        source: (N, IN), or with SQUEEZE the sums (N, IN + 1) of ``sum_active``.
        weight: (OUT, IN) in float32.
        bias: (OUT,) in float32.
        out: (N, OUT) in float32.
    """
    wait_for_inputs(PDL)
    blocks: tl.constexpr = (OUT + BN - 1) // BN
    image = tl.program_id(0) // blocks
    columns = tl.program_id(0) % blocks * BN + tl.arange(0, BN)
    valid = columns < OUT
    acc = tl.load(bias + columns, mask=valid, other=0.0)
    if SQUEEZE:
        pixels = tl.maximum(tl.load(source + image * (IN + 1) + IN), 1.0)
    for start in range(0, IN, BK):
        k = start + tl.arange(0, BK)
        if SQUEEZE:
            total = tl.load(source + image * (IN + 1) + k, mask=k < IN, other=0.0)
            value = (total / pixels).to(tl.float32)
        else:
            value = tl.load(source + image * IN + k, mask=k < IN, other=0.0)
        row = weight + columns[:, None] * IN + k[None, :]
        share = tl.load(row, mask=valid[:, None] & (k < IN)[None, :], other=0.0)
        acc += tl.sum(share * value[None, :], 1)
    result = tl.maximum(acc, 0.0) if SQUEEZE else 1.0 / (1.0 + tl.exp(-acc))
    tl.store(out + image * OUT + columns, result, mask=valid)


@triton.jit(do_not_specialize=['height', 'width'], do_not_specialize_on_alignment=['count'])
def scale_rows(
    rows,
    pixels,
    count,
    gates,
    height,
    width,
    CHANNELS: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Multiply each row by the gate (N, CHANNELS) of its image, in place; others as sum_active."""
    wait_for_inputs(PDL)
    tiles: tl.constexpr = (CHANNELS + BN - 1) // BN
    program = tl.program_id(0)
    first = program // tiles * BM
    total = tl.load(count)
    if first >= total:
        return
    listed = first + tl.arange(0, BM)
    columns = program % tiles * BN + tl.arange(0, BN)
    valid = (listed < total)[:, None] & (columns < CHANNELS)[None, :]
    pixel = tl.load(pixels + listed, mask=listed < total, other=0)
    image, _y, _x = split_pixel(pixel, height, width)
    gate = tl.load(gates + image[:, None] * CHANNELS + columns[None, :], mask=valid, other=0.0)
    target = rows + listed[:, None] * CHANNELS + columns[None, :]
    value = tl.load(target, mask=valid, other=0.0).to(tl.float32) * gate
    tl.store(target, value.to(rows.dtype.element_ty), mask=valid)
