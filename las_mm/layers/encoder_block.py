"""An encoder layer of a transformer that skips tokens, heads, attention or MLP (AdaViT)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .encoder_branch import HEAD_MODES, EncoderBranch, encoder_branch
from .executed_block import ExecutedBlock
from .executor import Masks
from .maskers import Masker
from .numbering import number_block
from .policy_masker import BlockMasker, HeadMasker, PolicyMasker, TokenMasker

POLICIES = {'tokens': TokenMasker, 'heads': HeadMasker, 'blocks': BlockMasker}
NAMES = {'tokens': 'token_masker', 'heads': 'head_masker', 'blocks': 'block_masker'}


class EncoderBlock(ExecutedBlock):
    """Mixin that turns a pre-norm encoder layer into a dynamic one, with AdaViT's semantics.

    It expects what mmpretrain's layers have: ``ln1``, ``attn`` with one ``qkv`` matrix, ``ln2`` and
    ``ffn``. Until :meth:`make_dynamic` is called the layer stays static. With the masks M of
    attention, MLP and tokens the output is

        z = x + M_a ⊙ M_t ⊙ attn(ln1(x)),  z + M_m ⊙ M_t ⊙ ffn(ln2(z)).

    A skipped token is attended to by itself alone and keeps its value, so that a later block can
    take it up again. A skipped head adds nothing, and by ``head_mode`` either the MLP reads nothing
    of its channels (``'input'``), or has that share of its hidden units fewer (``'hidden'``), or
    attention alone is skipped: the head passes on its values (``'attention'``).

    Attributes:
        with_cp: Whether training computes activations again in the backward pass.
    """

    ln1: nn.Module
    ln2: nn.Module
    attn: Any
    ffn: Any
    _grid: tuple[int, int] = (0, 0)  # of an input, so that what is made of the layer stays
    with_cp: bool = False
    extra: int = 1
    head_mode: str = 'input'
    tokens_with_mlp: bool = True

    def make_dynamic(
        self,
        policies: dict[str, dict[str, float]],
        name: str = '',
        extra: int = 1,
        head_mode: str = 'input',
        tokens_with_mlp: bool = True,
    ) -> None:
        """Give the layer its maskers.

        Args:
            policies: Arguments of each masker, by ``'tokens'``, ``'heads'`` and ``'blocks'``.
            name: The layer's name in its backbone.
            extra: Tokens besides the patches', always kept.
            head_mode: What a skipped head skips besides itself.
            tokens_with_mlp: Whether a skipped token skips the MLP, too.

        Raises:
            ValueError: If ``head_mode`` is unknown.
        """
        if head_mode not in HEAD_MODES:
            allowed = ', '.join(map(repr, HEAD_MODES))
            raise ValueError(f'head_mode: got {head_mode!r}; choose one of {allowed}')
        self.name, self.extra = name, extra
        self.head_mode, self.tokens_with_mlp = head_mode, tokens_with_mlp
        width, heads = self.attn.embed_dims, self.attn.num_heads
        counts = {'tokens': (), 'heads': (heads,), 'blocks': (2,)}
        for policy, options in policies.items():
            kind: Any = POLICIES[policy]
            setattr(self, NAMES[policy], kind(width, *counts[policy], **options))
        self.number = number_block(self)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the patches' tokens; set by the backbone before each forward."""
        return self._grid

    @grid.setter
    def grid(self, grid: tuple[int, int]) -> None:
        self._grid = grid

    @property
    def maskers(self) -> list[Masker]:
        """What decides for the layer: of tokens, of heads, of attention and MLP."""
        named = [self._modules.get(name) for name in NAMES.values()]
        return [masker for masker in named if isinstance(masker, Masker)]

    @property
    def linears(self) -> dict[str, nn.Linear]:
        """qkv, projection and both layers of the MLP, by their names in the block."""
        first, second = self.ffn.layers[0][0], self.ffn.layers[1]
        return {
            'attn.qkv': self.attn.qkv,
            'attn.proj': self.attn.proj,
            'ffn.layers.0.0': first,
            'ffn.layers.1': second,
        }

    @property
    def branch(self) -> EncoderBranch:
        layers: dict[str, nn.Module] = dict(self.linears)
        return encoder_branch(
            layers,
            extra=self.extra,
            head_mode=self.head_mode,
            tokens_with_mlp=self.tokens_with_mlp,
        )

    def decide(self, x: Tensor, normed: Tensor) -> dict[str, Tensor]:
        """Coarse masks by policy: tokens (N, 1, h', w'), heads (N, H), blocks (N, 2).

        Args:
            x: (N, L, D), the block's input.
            normed: The same after the first norm.
        """
        masks = {}
        for policy, name in NAMES.items():
            masker = self._modules.get(name)
            if isinstance(masker, TokenMasker):
                masks[policy] = masker.decide(normed[:, self.extra :], self.grid)
            elif isinstance(masker, PolicyMasker):
                masks[policy] = masker(x[:, 0])
        return masks

    def spread_tokens(self, mask: Tensor) -> Tensor:
        """Coarse mask of the patches' tokens -> (N, L), with the extra tokens, which are kept."""
        masker: Any = self._modules['token_masker']
        fine = masker.decision(mask, self.grid).pixels.flatten(1)
        return torch.cat([fine.new_ones(fine.shape[0], self.extra), fine], 1)

    def run_dense(self, x: Tensor) -> tuple[Tensor, Masks]:
        """The reference, and the only way to train: all is computed, then multiplied by the masks.

        Args:
            x: (N, L, D).

        Returns:
            The output (N, L, D) and the masks of :attr:`maskers`.
        """
        normed = self.ln1(x)
        masks = self.decide(x, normed)
        tokens = self.spread_tokens(masks['tokens']) if 'tokens' in masks else None
        heads, blocks = masks.get('heads'), masks.get('blocks')
        out = self._attend(normed, tokens, heads)
        if blocks is not None:
            out = out * blocks[:, :1, None].to(out.dtype)
        x = x + out
        out = self._mlp(self.ln2(x), tokens, heads)
        if blocks is not None:
            out = out * blocks[:, 1:, None].to(out.dtype)
        return x + out, tuple(masks.values())

    def _attend(self, x: Tensor, tokens: Tensor | None, heads: Tensor | None) -> Tensor:
        attn = self.attn
        shape = *x.shape[:2], 3, attn.num_heads, attn.head_dims
        q, k, v = attn.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4)
        if tokens is not None and self.tokens_with_mlp:
            tokens = tokens.detach()  # as AdaViT's: these learn by the MLP
        mask = None if tokens is None else self_or_kept(tokens.detach() > 0, q.dtype)
        dropout = attn.attn_drop if self.training else 0.0
        x = attn.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        if heads is not None:
            kept = heads[..., None, None].to(x.dtype)
            x = x * kept + v * (1 - kept) if self.head_mode == 'attention' else x * kept
        x = attn.proj(x.transpose(1, 2).flatten(2))
        if tokens is not None:
            x = x * tokens[..., None].to(x.dtype)
        return attn.out_drop(attn.gamma1(attn.proj_drop(x)))

    def _mlp(self, x: Tensor, tokens: Tensor | None, heads: Tensor | None) -> Tensor:
        first, *rest = self.ffn.layers
        if heads is not None and self.head_mode == 'input':
            x = x * spread_heads(heads, x)
        x = first(x)
        if heads is not None and self.head_mode == 'hidden':
            x = x * spread_heads(heads, x)
        for layer in rest:
            x = layer(x)
        if tokens is not None and self.tokens_with_mlp:
            x = x * tokens[..., None].to(x.dtype)
        return self.ffn.dropout_layer(self.ffn.gamma2(x))

    def check_granularity(self, input_size: tuple[int, int]) -> None:
        """Refuse patches of tokens that are larger than the grid.

        Raises:
            ValueError: If S exceeds both sides of the grid.
        """
        masker = self._modules.get('token_masker')
        if isinstance(masker, TokenMasker) and masker.granularity > max(input_size):
            raise ValueError(
                f'token_patch: got {masker.granularity}, larger than the {input_size[0]}x'
                f'{input_size[1]} grid of tokens; choose at most {max(input_size)}'
            )

    def forward(self, x: Tensor, private: bool = False) -> Tensor:
        """Run the layer, (N, L, D) -> (N, L, D); ``trace`` then says what it did."""
        self.check_granularity(self.grid)
        run = self._choose(x)
        if run is not None:
            out, masks = run(x, private)
        elif self.with_cp and x.requires_grad:
            out, masks = checkpoint(self.run_dense, x, use_reentrant=False)
        else:
            out, masks = self.run_dense(x)
        self.remember(masks, self.grid, x.shape[0])
        return out


def self_or_kept(kept: Tensor, dtype: torch.dtype) -> Tensor | None:
    """What is added to scores so that kept tokens attend to kept ones, others to themselves.

    Args:
        kept: (N, L) boolean.
        dtype: Of the scores.

    Returns:
        (N, 1, L, L) of zeros and -inf; None where all are kept, which is the static layer's.
    """
    if not torch.compiler.is_compiling() and kept.device.type == 'cpu' and bool(kept.all()):
        return None
    own = torch.eye(kept.shape[1], dtype=torch.bool, device=kept.device)
    seen = kept[:, :, None] & kept[:, None, :] | own
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, float('-inf'))[:, None]


def spread_heads(heads: Tensor, x: Tensor) -> Tensor:
    """(N, H) -> (N, 1, D), each head's decision at its share of the channels of x."""
    return heads.repeat_interleave(x.shape[-1] // heads.shape[1], 1)[:, None].to(x.dtype)
