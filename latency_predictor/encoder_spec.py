"""Plain description of an encoder layer of a vision transformer, static or dynamic (AdaViT)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from .checks import is_integer, require_integer, require_one_of
from .spec import ATTENTION, HEADS, MLP, TOKENS, Size

BLOCKS = 'blocks'  # the policy that decides on attention and MLP
POLICIES = (TOKENS, HEADS, BLOCKS)
HEAD_MODES = ('input', 'hidden', 'attention')


@dataclass(frozen=True)
class EncoderSpec:
    """Attention and MLP, each after a layer norm and with a residual connection.

    Attributes:
        name: Unique within the network, such as ``layers.0``.
        stage: From 0.
        width: Channels of a token.
        heads: Of the attention; a divisor of ``width``.
        hidden: Inner channels of the MLP.
        grid: (rows, columns) of the patches' tokens.
        in_width: Channels of a token that comes in, where they are others; 0 for ``width``.
        extra: Tokens besides the patches', which are always kept.
        policies: What is decided on: ``'tokens'``, ``'heads'`` and ``'blocks'``, that is attention
            and MLP, each for itself; () for a static layer.
        token_patch: S, tokens are decided on in S x S patches of their grid.
        head_mode: What a skipped head skips besides itself: ``'input'``, the MLP's inputs in its
            channels, ``'hidden'``, its share of hidden channels, or ``'attention'``, nothing, and
            it still computes its values.
        tokens_with_mlp: Whether a skipped token skips the MLP, too.
    """

    name: str
    stage: int
    width: int
    heads: int
    hidden: int
    grid: Size
    in_width: int = 0
    extra: int = 1
    policies: tuple[str, ...] = ()
    token_patch: int = 1
    head_mode: str = 'input'
    tokens_with_mlp: bool = True

    def __post_init__(self) -> None:
        owner = f'layer {self.name!r}'
        for field in ('width', 'heads', 'hidden', 'token_patch'):
            require_integer(f'{owner}, {field}', getattr(self, field), 1)
        for field in ('stage', 'in_width', 'extra'):
            require_integer(f'{owner}, {field}', getattr(self, field), 0)
        if self.width % self.heads:
            raise ValueError(
                f'{owner}, heads: got {self.heads}; give a divisor of width = {self.width}'
            )
        grid = self.grid
        if len(grid) != 2 or not all(is_integer(edge) and edge > 0 for edge in grid):
            raise ValueError(f'{owner}, grid: got {grid!r}; give [rows, columns]')
        for policy in self.policies:
            require_one_of(f'{owner}, policies', policy, POLICIES)
        require_one_of(f'{owner}, head_mode', self.head_mode, HEAD_MODES)
        for field in ('grid', 'policies'):
            object.__setattr__(self, field, tuple(getattr(self, field)))

    @property
    def tokens(self) -> int:
        """L, all tokens of an image."""
        return prod(self.grid) + self.extra

    @property
    def inputs(self) -> int:
        """Channels of a token that comes in."""
        return self.in_width or self.width

    @property
    def granularity(self) -> int | None:
        """S; None where no tokens are decided on."""
        return self.token_patch if TOKENS in self.policies else None

    @property
    def patches(self) -> int:
        """Decisions on tokens; the last patches are cut where S does not divide the grid."""
        return prod(-(-edge // self.token_patch) for edge in self.grid)

    @property
    def decided(self) -> frozenset[str]:
        """Names of the shares that the layer's decisions give."""
        names = {policy for policy in self.policies if policy != BLOCKS}
        return frozenset(names | ({ATTENTION, MLP} if BLOCKS in self.policies else set()))

    def with_policies(self, policies: Sequence[str], token_patch: int = 1) -> 'EncoderSpec':
        """The same layer with other decisions."""
        return replace(self, policies=tuple(policies), token_patch=token_patch)

    def static(self) -> 'EncoderSpec':
        """The same layer without decisions."""
        return replace(self, policies=(), token_patch=1)

    @property
    def works(self) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """MACs of each product for one image, with the shares that it runs at."""
        tokens, width, within = self.tokens, self.width, (TOKENS,) * self.tokens_with_mlp
        values = () if self.head_mode == 'attention' else (HEADS,)
        read = (HEADS,) if self.head_mode == 'input' else ()
        hidden = (HEADS,) if self.head_mode == 'hidden' else ()
        inner = tokens * width * self.hidden
        return (
            (2 * tokens * self.inputs * width, (TOKENS, HEADS, ATTENTION)),
            (tokens * self.inputs * width, (TOKENS, *values, ATTENTION)),
            (2 * tokens**2 * width, (TOKENS, TOKENS, HEADS, ATTENTION)),
            (tokens * width**2, (TOKENS, *values, ATTENTION)),
            (inner, (*within, *read, *hidden, MLP)),
            (inner, (*within, *hidden, MLP)),
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the static layer for one image; norms count none."""
        return sum(macs for macs, _ in self.works)

    @property
    def masker_macs(self) -> int:
        """Multiply-accumulates of all that decides for one image."""
        outputs = {HEADS: self.heads, BLOCKS: 2, TOKENS: self.patches}
        macs = self.inputs * sum(outputs[policy] for policy in self.policies)
        if self.token_patch > 1 and TOKENS in self.policies:
            macs += self.inputs * prod(self.grid)  # means of patches
        return macs
