"""Encoder layers without their skipped tokens, heads, attention or MLP, in PyTorch's operators."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_mm.layers import EncoderBlock, Executor, Masks, Run
from las_mm.ops.plain import is_watched, runs_as_shipped, why_not_plain

# What a layer's forward is made of; a subclass with one of its own may compute something else.
FORWARD = ('forward', 'run_dense', 'decide', '_attend', '_mlp')


Rows = Tensor | slice
# Adds, in place, attention or the MLP to rows: what is added to, its norm, lengths of the images'
# parts, and numbers of kept heads, None for all.
Half = Callable[[Tensor, Tensor, list[int], list[int] | None], None]


class TokenExecutor(Executor[EncoderBlock]):
    """Gathers kept tokens of each image, cuts matrices to kept heads and leaves out halves.

    Linear layers run at once over the kept tokens of all images whose decisions on heads, attention
    and MLP are the same, attention image by image where lengths differ. Decisions are those of the
    dense forward; so are outputs, up to rounding.

    Args:
        name: What it is called, as configs have one name for all kinds of blocks.
    """

    def __init__(self, name: str = 'torch') -> None:
        self.name = name

    def prepare(self, block: EncoderBlock, x: Tensor) -> Run | str:
        if reason := why_not_sparse(block, x):
            return reason
        halves = partial(attend, block), partial(feed, block)
        return lambda x, private: run_sparse(block, x, *halves)

    def __reduce__(self) -> tuple:
        return type(self), (self.name,)


def why_not_sparse(block: EncoderBlock, x: Tensor) -> str | None:
    """The reason why a layer cannot leave out on x what it skips; None if it can."""
    if x.device.type != 'cpu':
        return 'lists of kept tokens would be waited for on a GPU'
    return why_not_cut(block, x)


def why_not_cut(block: EncoderBlock, x: Tensor) -> str | None:
    """The reason why no executor can compute a part of a layer instead of calling it."""
    if torch.is_autocast_enabled(x.device.type):
        return 'encoder layers run in the precision of autocast'
    if not runs_as_shipped(block, *FORWARD):
        return f'{type(block).__name__} has a forward of its own'
    watched = next((part for part in block.modules() if is_watched(part)), None)
    if watched is not None:
        return f'a hook or another forward is on its {type(watched).__name__}'
    reasons = (why_not_plain(layer, nn.Linear) for layer in block.linears.values())
    return next((reason for reason in reasons if reason), None)


def run_sparse(block: EncoderBlock, x: Tensor, attend: Half, feed: Half) -> tuple[Tensor, Masks]:
    """The block's output, (N, L, D) -> (N, L, D), and the masks of its maskers."""
    policies = [type(masker).axis for masker in block.maskers]
    # Tokens are decided on by their norms, heads and halves by the first token alone.
    normed = block.ln1(x) if 'tokens' in policies else None
    masks = block.decide(x, x if normed is None else normed)
    tokens = block.spread_tokens(masks['tokens']) > 0 if 'tokens' in masks else None
    out, length = x.clone(memory_format=torch.contiguous_format), x.shape[1]
    rows_out = flat(out)
    for (heads, attends, feeds), images in group_images(masks, x.shape[0]):
        if not attends and not feeds:
            continue
        rows, lengths = kept_rows(tokens, images, length)
        part = rows_out[rows]
        if attends:
            attend(part, block.ln1(part) if normed is None else flat(normed)[rows], lengths, heads)
        if feeds and tokens is not None and not block.tokens_with_mlp:
            rows_out[rows] = part
            rows, lengths = kept_rows(None, images, length)
            part = rows_out[rows]
        if feeds:
            feed(part, block.ln2(part), lengths, heads)
        if not isinstance(rows, slice):  # of which the part is a view
            rows_out[rows] = part
    return out, tuple(masks.values())


def flat(x: Tensor) -> Tensor:
    """(N, L, D) -> (N·L, D)."""
    return x.flatten(0, 1)


def group_images(
    masks: dict[str, Tensor], images: int
) -> list[tuple[tuple[list[int] | None, bool, bool], list[int]]]:
    """Kept heads (None for all), whether attention and MLP run, and the images that do so."""
    heads = masks['heads'].tolist() if 'heads' in masks else [None] * images
    halves = masks['blocks'].tolist() if 'blocks' in masks else [(1, 1)] * images
    groups: dict[tuple, list[int]] = {}
    for image, (kept, (attends, feeds)) in enumerate(zip(heads, halves, strict=True)):
        numbers = None if kept is None or all(kept) else tuple(i for i, on in enumerate(kept) if on)
        groups.setdefault((numbers, bool(attends), bool(feeds)), []).append(image)
    return [
        ((None if numbers is None else list(numbers), *runs), members)
        for (numbers, *runs), members in groups.items()
    ]


def kept_rows(tokens: Tensor | None, images: list[int], length: int) -> tuple[Rows, list[int]]:
    """Rows of kept tokens among the (N·L) of all images, and how many each image has.

    Args:
        tokens: (N, L) boolean; None if all are kept.
        images: Which images, in ascending order.
        length: L.
    """
    if tokens is None:
        first, last = images[0], images[-1] + 1
        if last - first == len(images):
            return slice(first * length, last * length), [length] * len(images)
        starts = torch.tensor(images)[:, None] * length
        return (starts + torch.arange(length)).flatten(), [length] * len(images)
    chosen = tokens if len(images) == len(tokens) else tokens[images]
    kept = chosen.nonzero()
    lengths = chosen.sum(1).tolist()
    return torch.tensor(images)[kept[:, 0]] * length + kept[:, 1], lengths


def fused(attention: Callable) -> Callable:
    """PyTorch's fused attention in place of mmpretrain's written-out one; others as they are."""
    written_out = getattr(attention, 'func', None)
    if getattr(written_out, '__name__', '') != 'scaled_dot_product_attention_pyimpl':
        return attention
    divisor = cast(partial, attention).keywords['scale']
    return partial(F.scaled_dot_product_attention, scale=1 / divisor)


def mix(block: EncoderBlock, qkv: Tensor, lengths: list[int]) -> Tensor:
    """Attention within each image's tokens: (T, 3, H, d) -> (T, H, d)."""
    q, k, v = (part.split(lengths) for part in qkv.unbind(1))
    attention = fused(block.attn.scaled_dot_product_attention)
    if len(set(lengths)) == 1:
        together = [torch.stack(part).transpose(1, 2) for part in (q, k, v)]
        return attention(*together).transpose(1, 2).flatten(0, 1)
    parts = zip(q, k, v, strict=True)
    mixed = [attention(*(one.transpose(0, 1)[None] for one in part))[0] for part in parts]
    return torch.cat([one.transpose(0, 1) for one in mixed])


def columns_of(heads: list[int], width: int) -> Tensor:
    """Channels of some heads of ``width`` channels each."""
    return (torch.tensor(heads, dtype=torch.long)[:, None] * width + torch.arange(width)).flatten()


def attend(
    block: EncoderBlock, out: Tensor, x: Tensor, lengths: list[int], heads: list[int] | None
) -> None:
    """Add attention of kept tokens.

    Args:
        block: The block.
        out: (T, D), tokens of all images, one after another.
        x: The same, normalised.
        lengths: How many each image has.
        heads: Kept heads; None for all.
    """
    attn: Any = block.attn
    qkv, proj, width = attn.qkv.weight, attn.proj, attn.head_dims
    bias, weight = attn.qkv.bias, proj.weight
    passing = block.head_mode == 'attention' and heads is not None
    count = attn.num_heads
    if heads is not None and not passing:
        if not heads:
            if proj.bias is not None:
                out += attn.gamma1(proj.bias.expand_as(out))
            return
        columns, count = columns_of(heads, width), len(heads)
        rows = torch.cat([columns + part * attn.embed_dims for part in range(3)])
        qkv, bias = qkv[rows], None if bias is None else bias[rows]
        weight = weight[:, columns]
    parts = F.linear(x, qkv, bias).unflatten(1, (3, count, width))
    mixed = mix(block, parts, lengths)
    if passing and heads is not None:
        mixed = pass_values(mixed, parts[:, 2], heads)
    out += attn.gamma1(F.linear(mixed.flatten(1), weight, proj.bias))


def pass_values(mixed: Tensor, values: Tensor, heads: list[int]) -> Tensor:
    """(T, H, d) of kept heads, and of the others their values."""
    skipped = [i for i in range(mixed.shape[1]) if i not in heads]
    mixed[:, skipped] = values[:, skipped]
    return mixed


def feed(
    block: EncoderBlock, out: Tensor, x: Tensor, lengths: list[int], heads: list[int] | None
) -> None:
    """Add the MLP of kept tokens; as :func:`attend`."""
    (first, *inner), second, *_ = block.ffn.layers
    weight, bias, last = first.weight, first.bias, second.weight
    if heads is not None and block.head_mode == 'input':
        columns = columns_of(heads, x.shape[1] // block.attn.num_heads)
        x, weight = x[:, columns], weight[:, columns]
    x = F.linear(x, weight, bias)
    if heads is not None and block.head_mode == 'hidden':
        off = [i for i in range(block.attn.num_heads) if i not in heads]
        x[:, columns_of(off, x.shape[1] // block.attn.num_heads)] = 0
    for layer in inner:
        x = layer(x)
    out += block.ffn.gamma2(F.linear(x, last, second.bias))
