"""What is kept of each image of an encoder layer, as lists that stay on the GPU."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from las_mm.layers import EncoderBlock

from .kernels.token_lists import list_kept
from .launch import launch, use_pdl
from .options import Options
from .tiles import power_of_two

LISTED_AT_A_TIME = 1024  # tokens


@dataclass(frozen=True)
class Kept:
    """What is kept of each image; nothing of it is known to the host.

    Attributes:
        shape: (N, L).
        rows: (N, L) where kept tokens are among the rows of all images; None if all are kept.
        lengths: (2, N) tokens that go through attention and MLP.
        heads: (N, H) decisions; None if all are kept.
        order: (N, H) numbers of kept heads.
        head_counts: (N,) how many are kept.
    """

    shape: tuple[int, int]
    rows: Tensor | None
    lengths: Tensor
    heads: Tensor | None
    order: Tensor
    head_counts: Tensor

    def halved(self) -> 'Kept':
        """With the first half of all tokens and heads kept: what tiles are timed on."""
        heads, order = self.heads, self.order
        if heads is not None:
            order = torch.arange(heads.shape[1], device=heads.device, dtype=torch.int32)
            first = (order < (len(order) + 1) // 2).to(heads.dtype)
            order, heads = order.repeat(len(heads), 1), first.repeat(len(heads), 1)
        rows = self.rows
        if rows is not None:
            rows = torch.arange(rows.numel(), device=rows.device, dtype=torch.int32)
        return replace(
            self,
            rows=rows,
            lengths=torch.full_like(self.lengths, (self.shape[1] + 1) // 2),
            heads=heads,
            order=order,
            head_counts=torch.full_like(self.head_counts, (order.shape[1] + 1) // 2),
        )


@dataclass(frozen=True)
class Half:
    """Attention or MLP of the kept tokens.

    Attributes:
        number: 0 for attention, 1 for the MLP.
        kept: What is kept.
        rows: Where its tokens are among the rows of all images; None if they are the first ones.
        options: Switches.
    """

    number: int
    kept: Kept
    rows: Tensor | None
    options: Options

    @property
    def lengths(self) -> Tensor:
        """(N,) tokens of each image."""
        return self.kept.lengths[self.number]

    def halved(self) -> 'Half':
        """See :meth:`Kept.halved`."""
        kept = self.kept.halved()
        return replace(self, kept=kept, rows=None if self.rows is None else kept.rows)


def run_lists(
    block: EncoderBlock,
    x: Tensor,
    masks: dict[str, Tensor],
    grid: tuple[int, int],
    options: Options,
) -> Kept:
    """From decisions to lists; arguments as of ``run_layer``."""
    images, length = x.shape[:2]
    found = (masks.get(name) for name in ('tokens', 'heads', 'blocks'))
    tokens, heads, blocks = (None if mask is None else mask.contiguous() for mask in found)
    new = partial(torch.empty, device=x.device, dtype=torch.int32)
    count = 0 if heads is None else heads.shape[1]
    kept = Kept(
        shape=(images, length),
        rows=None if tokens is None else new(images, length),
        lengths=new(2, images),
        heads=heads,
        order=new(images, max(count, 1)),
        head_counts=new(images),
    )
    none = kept.lengths  # for what is not there
    down, across = (1, 1) if tokens is None else tokens.shape[2:]
    launch(
        list_kept, (images,), *(none if mask is None else mask for mask in (tokens, heads, blocks)),
        none if kept.rows is None else kept.rows, kept.lengths, kept.order, kept.head_counts,
        images, length, block.extra, grid[1], down, across,
        TOKENS=tokens is not None, WITH_MLP=block.tokens_with_mlp, HEADS=count,
        BLOCKS=blocks is not None, S=token_patch(block), PDL=use_pdl(options, x),
        BT=min(LISTED_AT_A_TIME, power_of_two(length)), BH=power_of_two(max(count, 1)),
        num_warps=4,
    )  # fmt: skip
    return kept


def token_patch(block: EncoderBlock) -> int:
    """S of a layer's policy of tokens; 1 without one."""
    masker: Any = block._modules.get('token_masker')
    return 1 if masker is None else masker.granularity
