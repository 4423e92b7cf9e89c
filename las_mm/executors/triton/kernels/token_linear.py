"""Norm and linear layers over the kept tokens of each image, for its kept heads."""

import triton
import triton.language as tl

from .tile import wait_for_inputs


@triton.jit(
    do_not_specialize=['length', 'epsilon'],
    do_not_specialize_on_alignment=['rows', 'lengths'],
)
def token_norm(
    source,
    weight,
    bias,
    out,
    rows,
    lengths,
    length,
    epsilon,
    CHANNELS: tl.constexpr,
    LISTED: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BC: tl.constexpr,
):
    """The layer norm of each image's tokens, which then stand one after another.

    Args:
        source: (N·length, CHANNELS) rows.
        weight, bias: (CHANNELS,), if WEIGHT and if BIAS.
        out: (N·length, CHANNELS); an image's tokens are the first of its rows.
        rows: (N, length) where an image's tokens are in ``source``, if LISTED; otherwise they are
            its first ones there, too.
        lengths: (N,) how many there are.
        BC: CHANNELS rounded up to a power of two.
    """
    wait_for_inputs(PDL)
    tiles = tl.cdiv(length, BM)
    image = tl.program_id(0) // tiles
    total = tl.load(lengths + image)
    first = tl.program_id(0) % tiles * BM
    if first >= total:
        return
    token = first + tl.arange(0, BM)
    inside = token < total
    place = image * length + token
    row = place
    if LISTED:
        row = tl.load(rows + place, mask=inside, other=0)
    column = tl.arange(0, BC)
    exists = column < CHANNELS
    valid = inside[:, None] & exists[None, :]
    value = tl.load(source + row[:, None] * CHANNELS + column[None, :], mask=valid, other=0.0)
    value = value.to(tl.float32)
    centred = value - tl.sum(value, 1)[:, None] / CHANNELS
    centred = tl.where(exists[None, :], centred, 0.0)
    variance = tl.sum(centred * centred, 1) / CHANNELS
    value = centred * tl.rsqrt(variance + epsilon)[:, None]
    if WEIGHT:
        value *= tl.load(weight + column, mask=exists, other=0.0).to(tl.float32)[None, :]
    if BIAS:
        value += tl.load(bias + column, mask=exists, other=0.0).to(tl.float32)[None, :]
    target = out + place[:, None] * CHANNELS + column[None, :]
    tl.store(target, value.to(out.dtype.element_ty), mask=valid)


@triton.jit
def apply_activation(value, ACTIVATION: tl.constexpr):
    """What stands between the layers of an MLP, by its name; nothing if None."""
    if ACTIVATION == 'relu':
        value = tl.maximum(value, 0.0)
    if ACTIVATION == 'gelu':
        value = 0.5 * value * (1.0 + tl.erf(value * 0.7071067811865476))
    if ACTIVATION == 'gelu_tanh':
        inner = 1.5957691216057308 * (value + 0.044715 * value * value * value)
        value = value * tl.sigmoid(inner)
    return value


@triton.jit(
    do_not_specialize=['length'],
    do_not_specialize_on_alignment=['rows', 'lengths', 'heads', 'order', 'head_counts'],
)
def token_linear(
    source,
    weight,
    bias,
    scale,
    out,
    rows,
    lengths,
    heads,
    order,
    head_counts,
    length,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    HEADS: tl.constexpr,
    SLICE: tl.constexpr,
    DEPTH: tl.constexpr,
    PARTS: tl.constexpr,
    SOME_INPUTS: tl.constexpr,
    SOME_OUTPUTS: tl.constexpr,
    VALUES: tl.constexpr,
    GATHER: tl.constexpr,
    SCATTER: tl.constexpr,
    ADD: tl.constexpr,
    BIAS: tl.constexpr,
    SCALE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """activate(source · weightᵀ + bias) of each image's tokens, or out += scale · (the same).

    A program is a tile of one image, so that it ends at once where that has no more tokens, or
    where all heads of its outputs are skipped, and never reads the inputs of skipped heads.

    Args:
        source: (N·length, IN) rows.
        weight: (OUT, IN).
        bias: (OUT,), if BIAS.
        scale: (OUT,), if SCALE.
        out: (N·length, OUT) rows.
        rows: (N, length) where an image's tokens are in ``source`` if GATHER, in ``out`` if
            SCATTER; they are the first of its rows where neither is so.
        lengths: (N,) how many tokens an image has.
        heads: (N, HEADS) decisions, read if SOME_OUTPUTS: outputs are PARTS times HEADS slices,
            those of skipped heads are left as they are; with VALUES but for the last part's.
        order, head_counts: (N, HEADS) numbers of kept heads and (N,) how many, read if SOME_INPUTS:
            inputs are HEADS slices, of which those of skipped heads count as zeros.
        SLICE: inputs of a head if SOME_INPUTS, all otherwise; DEPTH is padded for BK to divide it.
    """
    wait_for_inputs(PDL)
    columns_of_tiles: tl.constexpr = (OUT + BN - 1) // BN
    tiles = tl.cdiv(length, BM) * columns_of_tiles
    image = tl.program_id(0) // tiles
    tile = tl.program_id(0) % tiles
    total = tl.load(lengths + image)
    first = tile // columns_of_tiles * BM
    if first >= total:
        return
    column = tile % columns_of_tiles * BN + tl.arange(0, BN)
    wanted = column < OUT
    if SOME_OUTPUTS:
        part: tl.constexpr = OUT // PARTS
        head = column % part // (part // HEADS)
        needed = tl.load(heads + image * HEADS + head, mask=wanted, other=0.0) > 0
        if VALUES:
            needed = needed | (wanted & (column >= OUT - part))
        if tl.sum(needed.to(tl.int32), 0) == 0:
            return
    token = first + tl.arange(0, BM)
    inside = token < total
    place = image * length + token
    row = place
    if GATHER or SCATTER:
        row = tl.load(rows + place, mask=inside, other=0)
    read = place
    if GATHER:
        read = row
    slices = 1
    if SOME_INPUTS:
        slices = tl.load(head_counts + image)
    k = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.float32)
    steps: tl.constexpr = DEPTH // BK
    for step in range(0, slices * steps):
        within = step % steps * BK + k
        channel = within
        if SOME_INPUTS:
            channel += tl.load(order + image * HEADS + step // steps) * SLICE
        valid = inside[:, None]
        valid_weight = wanted[None, :]
        if SLICE != DEPTH:
            valid = valid & (within < SLICE)[None, :]
            valid_weight = valid_weight & (within < SLICE)[:, None]
        a = tl.load(source + read[:, None] * IN + channel[None, :], mask=valid, other=0.0)
        b = tl.load(weight + column[None, :] * IN + channel[:, None], mask=valid_weight, other=0.0)
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    if BIAS:
        acc += tl.load(bias + column, mask=wanted, other=0.0).to(tl.float32)[None, :]
    acc = apply_activation(acc, ACTIVATION)
    if SCALE:
        acc *= tl.load(scale + column, mask=wanted, other=0.0).to(tl.float32)[None, :]
    write = place
    if SCATTER:
        write = row
    target = out + write[:, None] * OUT + column[None, :]
    valid = inside[:, None] & wanted[None, :]
    if ADD:
        acc += tl.load(target, mask=valid, other=0.0).to(tl.float32)
    tl.store(target, acc.to(out.dtype.element_ty), mask=valid)
