"""Attention among the kept tokens of each image, by its kept heads, with a running softmax."""

import triton
import triton.language as tl

from .tile import wait_for_inputs

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(
    do_not_specialize=['length', 'scale'],
    do_not_specialize_on_alignment=['lengths', 'heads'],
)
def token_attention(
    qkv,
    out,
    lengths,
    heads,
    length,
    scale,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    SOME_HEADS: tl.constexpr,
    PASS: tl.constexpr,
    PRECISION: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """softmax(scale · q · kᵀ) · v of a head and of BM tokens of an image.

    Scores never leave the registers: keys come BN at a time, and what was summed before is scaled
    where a larger score appears.

    Args:
        qkv: (N·length, 3, HEADS, WIDTH) queries, keys and values; an image's tokens are the first
            of its rows.
        out: (N·length, HEADS, WIDTH) in the same order.
        lengths: (N,) how many tokens an image has.
        heads: (N, HEADS) decisions, read if SOME_HEADS: skipped heads pass on their values if PASS,
            and are left as they are otherwise.
        DEPTH: WIDTH rounded up to a power of two.
    """
    wait_for_inputs(PDL)
    tiles = tl.cdiv(length, BM)
    image = tl.program_id(0) // (tiles * HEADS)
    head = tl.program_id(0) // tiles % HEADS
    first = tl.program_id(0) % tiles * BM
    total = tl.load(lengths + image)
    if first >= total:
        return
    keys = total
    if SOME_HEADS:
        kept = tl.load(heads + image * HEADS + head) > 0
        keys = tl.where(kept, total, 0)
        if (keys == 0) & (not PASS):
            return
    step: tl.constexpr = 3 * HEADS * WIDTH
    token = first + tl.arange(0, BM)
    inside = token < total
    channel = tl.arange(0, DEPTH)
    exists = channel < WIDTH
    valid = inside[:, None] & exists[None, :]
    queries = qkv + image * length * step + head * WIDTH
    at = token[:, None] * step + channel[None, :]
    q = tl.load(queries + at, mask=valid, other=0.0)
    values = queries + 2 * HEADS * WIDTH
    acc = tl.zeros((BM, DEPTH), tl.float32)
    highest = tl.full((BM,), float('-inf'), tl.float32)
    sums = tl.zeros((BM,), tl.float32)
    for start in range(0, keys, BN):
        key = start + tl.arange(0, BN)
        known = key < keys
        there = exists[:, None] & known[None, :]
        at_key = key[None, :] * step + channel[:, None] + HEADS * WIDTH
        k = tl.load(queries + at_key, mask=there, other=0.0)
        scores = tl.dot(q, k, input_precision=PRECISION) * (scale * LOG2_E)
        scores = tl.where(known[None, :], scores, float('-inf'))
        higher = tl.maximum(highest, tl.max(scores, 1))
        shrink = tl.exp2(highest - higher)
        share = tl.exp2(scores - higher[:, None])
        sums = sums * shrink + tl.sum(share, 1)
        v = tl.load(
            values + key[:, None] * step + channel[None, :],
            mask=known[:, None] & exists[None, :],
            other=0.0,
        )
        acc = tl.dot(share.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
        highest = higher
    if PASS:
        own = tl.load(values + at, mask=valid, other=0.0).to(tl.float32)
        acc = tl.where(kept, acc, own)
        sums = tl.where(kept, sums, 1.0)
    acc = acc / sums[:, None]
    place = image * length + token
    target = out + (place[:, None] * HEADS + head) * WIDTH + channel[None, :]
    tl.store(target, acc.to(out.dtype.element_ty), mask=valid)
