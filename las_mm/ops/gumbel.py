"""The decision which patches to compute: straight-through Gumbel-softmax (Eq. 1)."""

import torch
from torch import Tensor


def gumbel_decision(logits: Tensor, temperature: float, noise: bool = True) -> Tensor:
    """Decide per patch between keep (index 0) and skip (index 1), in training.

    The decision is sampled with Gumbel noise and its gradient is that of the softmax at
    ``temperature``; the value is exactly 0 or 1. Without noise a patch is kept where
    ``logit[0] >= logit[1]``, so a tie keeps, as in inference.

    Args:
        logits: (N, 2, h, w), the masker's output.
        temperature: τ > 0 of Eq. 1.
        noise: Whether Gumbel noise is added.

    Returns:
        (N, 1, h, w) mask of the logits' dtype with values in {0, 1}.
    """
    margin = logits[:, :1] - logits[:, 1:]
    if noise:
        margin = margin + logistic_noise(margin)
    # A softmax over two entries is the sigmoid of their difference.
    soft = torch.sigmoid(margin / temperature)
    hard = (margin >= 0).to(logits.dtype)
    # Parenthesised so that the forward value is exactly 0 or 1.
    return hard + (soft - soft.detach())


def logistic_noise(like: Tensor) -> Tensor:
    """The difference of two Gumbel variables, G_0 − G_1 of Eq. 1, for every entry of ``like``."""
    uniform = torch.rand_like(like).clamp_(1e-7, 1 - 1e-7)
    return torch.logit(uniform)
