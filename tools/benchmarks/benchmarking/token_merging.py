"""ToMe (Bolya et al., ICLR 2023) on mmpretrain's ViT: similar tokens become one, untrained."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Sizes:
    """How many tokens each token is made of, (N, L); None before any merge."""

    def __init__(self) -> None:
        self.now: Tensor | None = None


class MergingLayer(nn.Module):
    """An encoder layer that merges tokens between its attention and its MLP (Sec. 3).

    Args:
        layer: mmpretrain's.
        reduction: r, tokens less after the layer; at most half of those that are no class token.
        sizes: Shared by the layers of a network.
        first: Whether it is the first one.
    """

    def __init__(self, layer: Any, reduction: int, sizes: Sizes, first: bool) -> None:
        super().__init__()
        self.layer, self.reduction, self.sizes, self.first = layer, reduction, sizes, first

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) -> (N, L - r, D)."""
        if self.first:
            self.sizes.now = None
        layer, attn, sizes = self.layer, self.layer.attn, self.sizes.now
        shape = *x.shape[:2], 3, attn.num_heads, attn.head_dims
        q, k, v = attn.qkv(layer.ln1(x)).reshape(shape).permute(2, 0, 3, 1, 4)
        bias = None if sizes is None else sizes.log()[:, None, None]  # proportional attention
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + attn.gamma1(attn.proj(mixed.transpose(1, 2).flatten(2)))
        x, self.sizes.now = merge(x, k.mean(1), sizes, self.reduction)
        return layer.ffn(layer.ln2(x), identity=x)


def merge(x: Tensor, keys: Tensor, sizes: Tensor | None, reduction: int) -> tuple[Tensor, Tensor]:
    """Merge the most similar pairs, one of each from every second token.

    Args:
        x: (N, L, D), the class token first, which stays.
        keys: (N, L, d) that tell how similar tokens are.
        sizes: (N, L); None for ones.
        reduction: How many pairs.

    Returns:
        (N, L - r, D) means, weighted by sizes, and their sizes.
    """
    sizes = x.new_ones(x.shape[:2]) if sizes is None else sizes
    reduction = min(reduction, (x.shape[1] - 1) // 2)
    keys = F.normalize(keys, dim=-1)
    scores = keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)
    scores[:, 0] = float('-inf')
    best, partner = scores.max(2)
    order = best.argsort(1, descending=True)
    merged, kept = order[:, :reduction], order[:, reduction:].sort(1).values
    into = partner.gather(1, merged)
    weighted = torch.cat([x * sizes[..., None], sizes[..., None]], 2)
    even, odd = weighted[:, ::2], weighted[:, 1::2]
    wide = weighted.shape[2]
    sources = even.gather(1, merged[..., None].expand(-1, -1, wide))
    odd = odd.scatter_add(1, into[..., None].expand(-1, -1, wide), sources)
    out = torch.cat([even.gather(1, kept[..., None].expand(-1, -1, wide)), odd], 1)
    return out[..., :-1] / out[..., -1:], out[..., -1]


def merge_tokens(network: Any, reduction: int) -> Any:
    """Let each layer of mmpretrain's VisionTransformer, given, merge r tokens."""
    sizes = Sizes()
    layers = [MergingLayer(m, reduction, sizes, i == 0) for i, m in enumerate(network.layers)]
    network.layers = nn.ModuleList(layers)
    return network
