"""Encoder layers without their skipped tokens, heads, attention or MLP, in PyTorch's operators."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_mm.layers import EncoderBlock, Executor, Masks, Run
from las_mm.ops.plain import is_watched, runs_as_shipped, why_not_plain

# What a layer's forward is made of; a subclass with one of its own may compute something else.
FORWARD = ('forward', 'run_dense', 'decide', '_attend', '_mlp')


class TokenExecutor(Executor[EncoderBlock]):
    """Gathers kept tokens of each image, cuts matrices to kept heads and leaves out halves.

    Linear layers run at once over the kept tokens of all images whose heads are the same, attention
    image by image, as lengths differ. Decisions are those of the dense forward; so are outputs, up
    to rounding.

    Args:
        name: What it is called, as configs have one name for all kinds of blocks.
    """

    def __init__(self, name: str = 'torch') -> None:
        self.name = name

    def prepare(self, block: EncoderBlock, x: Tensor) -> Run | str:
        if x.device.type != 'cpu':
            return 'lists of kept tokens would be waited for on a GPU'
        if torch.is_autocast_enabled(x.device.type):
            return 'encoder layers run in the precision of autocast'
        if not runs_as_shipped(block, *FORWARD):
            return f'{type(block).__name__} has a forward of its own'
        watched = next((part for part in block.modules() if is_watched(part)), None)
        if watched is not None:
            return f'a hook or another forward is on its {type(watched).__name__}'
        reasons = (why_not_plain(layer, nn.Linear) for layer in block.linears.values())
        if reason := next((reason for reason in reasons if reason), None):
            return reason
        return lambda x, private: run_sparse(block, x)


def run_sparse(block: EncoderBlock, x: Tensor) -> tuple[Tensor, Masks]:
    """The block's output, (N, L, D) -> (N, L, D), and the masks of its maskers."""
    policies = [type(masker).axis for masker in block.maskers]
    # Tokens are decided on by their norms, heads and halves by the first token alone.
    normed = block.ln1(x) if 'tokens' in policies else None
    masks = block.decide(x, x if normed is None else normed)
    tokens = block.spread_tokens(masks['tokens']) > 0 if 'tokens' in masks else None
    halves = masks.get('blocks', x.new_ones(x.shape[0], 2)).tolist()
    out = x.clone()
    groups = group_by_heads(masks.get('heads'), x.shape[0])
    for heads, images in groups:
        attending = [i for i in images if halves[i][0]]
        if attending:
            rows, lengths = kept_rows(tokens, attending, x.shape[1])
            source = block.ln1(flat(x)[rows]) if normed is None else flat(normed)[rows]
            flat(out).index_add_(0, rows, attend(block, source, lengths, heads))
        feeding = [i for i in images if halves[i][1]]
        if feeding:
            rows, _ = kept_rows(tokens if block.tokens_with_mlp else None, feeding, x.shape[1])
            flat(out).index_add_(0, rows, feed(block, block.ln2(flat(out)[rows]), heads))
    return out, tuple(masks.values())


def flat(x: Tensor) -> Tensor:
    """(N, L, D) -> (N·L, D)."""
    return x.flatten(0, 1)


def group_by_heads(heads: Tensor | None, images: int) -> list[tuple[list[int] | None, list[int]]]:
    """Numbers of kept heads, None for all, with the images that keep exactly these."""
    if heads is None:
        return [(None, list(range(images)))]
    groups: dict[tuple, list[int]] = {}
    for image, kept in enumerate(heads.tolist()):
        groups.setdefault(tuple(kept), []).append(image)
    return [
        (None if all(kept) else [i for i, on in enumerate(kept) if on], members)
        for kept, members in groups.items()
    ]


def kept_rows(tokens: Tensor | None, images: list[int], length: int) -> tuple[Tensor, list[int]]:
    """Rows of kept tokens among the (N·L) of all images, and how many each image has.

    Args:
        tokens: (N, L) boolean; None if all are kept.
        images: Which images.
        length: L.
    """
    if tokens is None:
        starts = torch.tensor(images)[:, None] * length
        return (starts + torch.arange(length)).flatten(), [length] * len(images)
    kept = tokens[images].nonzero()
    lengths = torch.bincount(kept[:, 0], minlength=len(images)).tolist()
    return torch.tensor(images)[kept[:, 0]] * length + kept[:, 1], lengths


def columns_of(heads: list[int], width: int) -> Tensor:
    """Channels of some heads of ``width`` channels each."""
    return (torch.tensor(heads, dtype=torch.long)[:, None] * width + torch.arange(width)).flatten()


def attend(block: EncoderBlock, x: Tensor, lengths: list[int], heads: list[int] | None) -> Tensor:
    """Attention of kept tokens, without the residual: (T, D) -> (T, D).

    Args:
        block: The block.
        x: Normalised tokens of all images, one after another.
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
            out = proj.bias if proj.bias is not None else x.new_zeros(x.shape[1])
            return attn.gamma1(out.expand(x.shape[0], -1))
        columns, count = columns_of(heads, width), len(heads)
        rows = torch.cat([columns + part * attn.embed_dims for part in range(3)])
        qkv, bias = qkv[rows], None if bias is None else bias[rows]
        weight = weight[:, columns]
    q, k, v = F.linear(x, qkv, bias).unflatten(1, (3, count, width)).unbind(1)
    parts = []
    for query, key, value in zip(*(part.split(lengths) for part in (q, k, v)), strict=True):
        chosen = [part.transpose(0, 1)[None] for part in (query, key, value)]
        mixed = attn.scaled_dot_product_attention(*chosen)[0].transpose(0, 1)
        parts.append(mixed)
    out = torch.cat(parts)
    if passing and heads is not None:
        skipped = [i for i in range(count) if i not in heads]
        out[:, skipped] = v[:, skipped]
    return attn.gamma1(F.linear(out.flatten(1), weight, proj.bias))


def feed(block: EncoderBlock, x: Tensor, heads: list[int] | None) -> Tensor:
    """The MLP of kept tokens, without the residual: (T, D) -> (T, D)."""
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
    return block.ffn.gamma2(F.linear(x, last, second.bias))
