"""What is kept of each image of a transformer's layer: lists of tokens and heads (AdaViT)."""

import triton
import triton.language as tl

from .tile import wait_for_inputs


@triton.jit(do_not_specialize=['images', 'length', 'extra', 'width', 'down', 'across'])
def list_kept(
    tokens,
    heads,
    blocks,
    rows,
    lengths,
    order,
    head_counts,
    images,
    length,
    extra,
    width,
    down,
    across,
    TOKENS: tl.constexpr,
    WITH_MLP: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCKS: tl.constexpr,
    S: tl.constexpr,
    PDL: tl.constexpr,
    BT: tl.constexpr,
    BH: tl.constexpr,
):
    """List the kept tokens and heads of an image, in ascending order; one program per image.

    Args:
        tokens: (N, down·across) decisions on S×S patches of the grid of tokens, if TOKENS.
        heads: (N, HEADS) decisions, if HEADS > 0.
        blocks: (N, 2) decisions on attention and MLP, if BLOCKS.
        rows: (N, length) rows of kept tokens among the (N·length) of all images, if TOKENS.
        lengths: (2, N) tokens that go through attention and MLP, 0 where these are skipped.
        order: (N, HEADS) numbers of kept heads.
        head_counts: (N,) how many are kept.
        extra: tokens before those of the grid, always kept.
        width: tokens across of the grid.
        WITH_MLP: whether a skipped token skips the MLP, too.
        BT: tokens that are read at a time.
        BH: HEADS rounded up to a power of two.
    """
    wait_for_inputs(PDL)
    image = tl.program_id(0)
    kept = length
    if TOKENS:
        kept = length * 0
        for start in range(0, length, BT):
            token = start + tl.arange(0, BT)
            of_grid = (token >= extra) & (token < length)
            place = tl.where(of_grid, token - extra, 0)
            patch = place // width // S * across + place % width // S
            decision = tl.load(tokens + image * down * across + patch, mask=of_grid, other=0.0)
            keep = (of_grid & (decision > 0)) | ((token < extra) & (token < length))
            one = keep.to(tl.int32)
            target = rows + image * length + kept + tl.cumsum(one, 0) - 1
            tl.store(target, image * length + token, mask=keep)
            kept += tl.sum(one, 0)
    fed = length
    if WITH_MLP:
        fed = kept
    attended = kept
    if BLOCKS:
        attended = tl.where(tl.load(blocks + image * 2) > 0, kept, 0)
        fed = tl.where(tl.load(blocks + image * 2 + 1) > 0, fed, 0)
    tl.store(lengths + image, attended)
    tl.store(lengths + images + image, fed)
    if HEADS > 0:
        head = tl.arange(0, BH)
        decision = tl.load(heads + image * HEADS + head, mask=head < HEADS, other=0.0)
        one = (decision > 0).to(tl.int32)
        tl.store(order + image * HEADS + tl.cumsum(one, 0) - 1, head, mask=one > 0)
        tl.store(head_counts + image, tl.sum(one, 0))
