"""What an encoder layer of a transformer computes, and at which shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

from .branch import Branch, Work
from .decision import BLOCKS, HEADS, TOKENS, Decision

# The two halves of a block that a block masker decides on, each for itself.
ATTENTION, MLP = 'attention', 'mlp'
HEAD_MODES = ('input', 'hidden', 'attention')


@dataclass(frozen=True)
class Linear:
    """A linear layer as a step: what traces and reports ask of any step.

    Attributes:
        name: Its name in the block.
        op: The layer.
    """

    name: str
    op: nn.Linear


@dataclass(frozen=True)
class EncoderBranch(Branch):
    """Attention and MLP of an encoder layer, both with a residual connection.

    Attributes:
        extra: Tokens besides the patches', which are always kept.
        head_mode: What a skipped head skips besides itself, see
            :class:`~las_mm.layers.EncoderBlock`.
        tokens_with_mlp: Whether a skipped token skips the MLP, too.
    """

    extra: int = 1
    head_mode: str = 'input'
    tokens_with_mlp: bool = True

    @property
    def stride(self) -> int:
        return 1

    def shares(
        self, decisions: Sequence[Decision], input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """(N,) share of tokens, the extra ones included, of heads, of attention and of MLP."""
        shares = {}
        for decision in decisions:
            if decision.axis == TOKENS:
                patches = prod(input_size)
                kept = decision.share * patches + self.extra
                shares[TOKENS] = kept / (patches + self.extra)
            elif decision.axis == HEADS:
                shares[HEADS] = decision.share
            elif decision.axis == BLOCKS:
                shares[ATTENTION], shares[MLP] = decision.mask.float().unbind(1)
        return shares

    def works(self, input_size: tuple[int, int], axes: Sequence[str]) -> tuple[Work, ...]:
        """What the static layer computes for one image, and at which shares.

        Queries, keys and values are computed of kept tokens for kept heads, both products with
        them between kept tokens; the projection and the first linear layer of the MLP read what
        kept heads wrote. The matrices' inputs alone are narrowed where outputs are whole.

        Args:
            input_size: (h, w), the grid of tokens.
            axes: The axes that the block decides on.
        """
        sizes: list[Any] = [step.op.weight for step in self.steps]
        qkv, proj, first, second = (weight.numel() for weight in sizes)
        width, tokens = sizes[1].shape[1], prod(input_size) + self.extra
        token = (TOKENS,) if TOKENS in axes else ()
        heads = (HEADS,) if HEADS in axes else ()
        attention, mlp = ((ATTENTION,), (MLP,)) if BLOCKS in axes else ((), ())
        within = token if self.tokens_with_mlp else ()
        read = heads if self.head_mode == 'input' else ()
        hidden = heads if self.head_mode == 'hidden' else ()
        # A head replaced by the identity still computes values.
        values = () if self.head_mode == 'attention' else heads
        return (
            Work('attn.qk', tokens * qkv * 2 // 3, (*token, *heads, *attention)),
            Work('attn.v', tokens * qkv // 3, (*token, *values, *attention)),
            Work('attn.scores', 2 * tokens**2 * width, (*token, *token, *heads, *attention)),
            Work('attn.proj', tokens * proj, (*token, *values, *attention)),
            Work('ffn.first', tokens * first, (*within, *read, *hidden, *mlp)),
            Work('ffn.second', tokens * second, (*within, *hidden, *mlp)),
        )


def encoder_branch(layers: dict[str, nn.Module], **options: Any) -> EncoderBranch:
    """The branch of an encoder layer, given qkv, projection and both layers of the MLP by name."""
    steps: Any = tuple(Linear(name, layer) for name, layer in layers.items())  # type: ignore[arg-type]
    return EncoderBranch(steps, **options)
