"""Maskers of transformers: which tokens, heads and halves of a block to compute (AdaViT)."""

from math import log, prod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_mm.ops import conv_size
from las_mm.ops.gumbel import logistic_noise

from .decision import BLOCKS, HEADS, TOKENS, Decision
from .maskers import Masker


class PolicyMasker(Masker):
    """A linear layer on a token whose logits say what to keep: AdaViT's decision networks.

    In training σ((logit + noise) / τ) is compared with the threshold, straight-through; in
    inference it is σ(logit), without noise and τ.

    Args:
        embed_dims: Channels of a token.
        decisions: Logits of a token.
        threshold: From which probability on something is kept.
        keep_bias: Initial bias; large enough that training starts with nearly everything kept.

    Raises:
        ValueError: If the threshold is not between 0 and 1.
    """

    option: ClassVar[str]

    def __init__(
        self, embed_dims: int, decisions: int, threshold: float = 0.5, keep_bias: float = 2.0
    ) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(
                f'{self.option}: got {threshold}; choose a probability between 0 and 1, such as 0.5'
            )
        self.threshold, self.keep_bias = threshold, keep_bias
        self.mlp_head = nn.Linear(embed_dims, decisions)
        self.init_weights()

    def init_weights(self) -> None:
        self.mlp_head.reset_parameters()
        nn.init.constant_(self.mlp_head.bias, self.keep_bias)

    def logits(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Logits of what to keep: (N, ..., D) -> (N, ..., K); never in reduced precision."""
        with torch.autocast(x.device.type, enabled=False):
            return self.mlp_head(x.to(self.dtype))

    def margin(self, x: Tensor) -> Tensor:
        """Logits minus that of the threshold, in double precision: (N, ..., D) -> (N, ..., K)."""
        weight, bias = self.mlp_head.weight.detach(), self.mlp_head.bias.detach()
        least = log(self.threshold / (1 - self.threshold))
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.double(), weight.double(), bias.double()) - least

    def forward(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Decide: tokens (N, ..., D) -> mask in {0, 1} (N, ..., K), sampled in training."""
        if not self.training:
            mask = (self.margin(x) >= 0).to(self.dtype)
            return mask if self.decided is None else self.decided.to(mask).expand_as(mask)
        logits = self.logits(x)
        kept = logits.detach().sigmoid() >= self.threshold
        self.__dict__['noiseless_share'] = kept.to(logits.dtype).mean()
        if self.noise:
            logits = logits + logistic_noise(logits)
        soft = torch.sigmoid(logits / self.temperature)
        hard = (soft.detach() >= self.threshold).to(soft)
        # Parenthesised so that the forward value is exactly 0 or 1.
        return hard + (soft - soft.detach())

    def macs(self, input_size: tuple[int, int]) -> int:
        return self.mlp_head.weight.numel()

    def decision(self, mask: Tensor, size: tuple[int, int]) -> Decision:
        return Decision(self.axis, mask.to(self.dtype), None, size)


class HeadMasker(PolicyMasker):
    """Decides for each head of an image's attention, from the block's first token."""

    axis = HEADS
    option = 'head_threshold'


class BlockMasker(PolicyMasker):
    """Decides for attention and MLP of a block, each whole, from the block's first token."""

    axis = BLOCKS
    option = 'block_threshold'


class TokenMasker(PolicyMasker):
    """Decides for every S×S patch of the token grid, from the normalised tokens.

    Args:
        embed_dims: Channels of a token.
        token_patch: S, edge of a patch in tokens; 1 is AdaViT's, a larger one makes memory accesses
            contiguous. Logits are of the mean over a patch, the last ones are cut.
        options: ``threshold`` and ``keep_bias`` of the base.
    """

    axis = TOKENS
    option = 'token_threshold'
    granularity: int

    def __init__(self, embed_dims: int, token_patch: int = 1, **options: float) -> None:
        super().__init__(embed_dims, 1, **options)
        self.granularity = token_patch

    def decide(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens of a grid, (N, h·w, D) -> coarse mask (N, 1, ceil(h/S), ceil(w/S))."""
        size, edge = conv_size(grid, self.granularity), self.granularity
        if edge > 1:
            with torch.autocast(tokens.device.type, enabled=False):
                image = tokens.to(self.dtype if self.training else torch.float64)
                image = image.transpose(1, 2).unflatten(2, grid)
                pooled = F.avg_pool2d(image, edge, ceil_mode=True, count_include_pad=False)
                tokens = pooled.flatten(2).transpose(1, 2)
        if self.decided is None or self.training:
            return self(tokens).transpose(1, 2).unflatten(2, size)
        replayed = self.decided.to(self.dtype)
        return replayed.expand(tokens.shape[0], 1, *size)

    def macs(self, input_size: tuple[int, int]) -> int:
        pooling = prod(input_size) if self.granularity > 1 else 0
        patches = prod(conv_size(input_size, self.granularity))
        return (pooling + patches) * self.mlp_head.in_features

    def decision(self, mask: Tensor, size: tuple[int, int]) -> Decision:
        return Decision(self.axis, mask.to(self.dtype), self.granularity, size)
