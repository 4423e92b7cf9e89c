"""AdaViT's own loss: a target for the use of tokens, of heads and of blocks."""

from collections.abc import Collection

import torch
from mmengine.registry import HOOKS
from torch import Tensor, nn

from las_mm.checks import check_number
from las_mm.layers import ATTENTION, BLOCKS, HEADS, MLP, TOKENS
from las_mm.losses import usage_loss

from .backbone_loss import BackboneLossHook, global_mean
from .learning import Forward


@HOOKS.register_module()
class UsageLossHook(BackboneLossHook):
    """Adds AdaViT's loss of each policy, α times abs(u − γ) or (u − γ)².

    The mean uses u, over the images of all processes, are: of tokens, over the blocks and with the
    class token; of heads, over the images and blocks whose attention or MLP runs; of blocks, over
    all attentions and MLPs that are decided on. The losses are ``loss_tokens``, ``loss_heads`` and
    ``loss_blocks``. What this makes of the FLOPs is logged; to pull these to a target, use
    :class:`~las_mm.hooks.SparsityLossHook`.

    Whose forwards count and what is logged: as :class:`~las_mm.hooks.SparsityLossHook`.

    Args:
        tokens: γ of the tokens, in [0, 1]; None for no such loss.
        heads: γ of the heads.
        blocks: γ of attention and MLP.
        alpha: α.
        squared: The policies whose difference is squared; the others' is absolute. By default as in
            the authors' training code.
        backbone: Name in the model of the dynamic backbone, where it trains several.

    Raises:
        TypeError, ValueError: If an argument is not one of the allowed ones; before training, if
            the backbone does not decide on what there is a target for.

    Example:
        >>> custom_hooks = [dict(type='UsageLossHook', tokens=0.5, heads=0.5, blocks=0.5)]
    """

    def __init__(
        self,
        tokens: float | None = None,
        heads: float | None = None,
        blocks: float | None = None,
        alpha: float = 2.0,
        squared: Collection[str] = (TOKENS,),
        backbone: str | None = None,
    ) -> None:
        super().__init__(backbone)
        policies = {TOKENS: tokens, HEADS: heads, BLOCKS: blocks}
        self.targets = {policy: use for policy, use in policies.items() if use is not None}
        allowed = ', '.join(map(repr, policies))
        if not self.targets:
            raise ValueError(f'UsageLossHook: got no target; give one to any of {allowed}')
        for policy, use in self.targets.items():
            check_number(policy, use, lambda share: 0 <= share <= 1, 'a share in [0, 1]')
        check_number('alpha', alpha, lambda a: a >= 0, ">= 0, 2 is AdaViT's")
        if isinstance(squared, str) or not set(squared) <= set(policies):
            raise ValueError(f'squared: got {squared!r}; give a list of any of {allowed}')
        self.alpha, self.squared = alpha, set(squared)

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        axes = {masker.axis for block in self.backbone.blocks for masker in block.maskers}
        missing = [policy for policy in self.targets if policy not in axes]
        if missing:
            raise ValueError(
                f'{missing[0]}: got {self.targets[missing[0]]} for a {self.backbone.title} that '
                f'decides on {", ".join(sorted(axes))}; leave {missing[0]} out, or let it decide '
                'on them by its policies'
            )

    def rate_losses(self, rates: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = {}
        for policy, target in self.targets.items():
            usage = head_usage(self.forwards) if policy == HEADS else rates[policy].mean()
            loss = usage_loss(usage, target, policy in self.squared)
            losses[f'loss_{policy}'] = self.alpha * loss
        return losses


def head_usage(forwards: list[Forward]) -> Tensor:
    """Mean share of heads over the images of blocks that run; 0 where none does.

    A scalar, the mean over processes, too.

    Args:
        forwards: The forwards of the backbone to learn from.
    """
    kept, runs = [], []
    for shares in (trace.shares for forward in forwards for trace in forward.traces):
        if HEADS in shares:
            heads = shares[HEADS]
            halves = [shares.get(half, torch.ones_like(heads)) for half in (ATTENTION, MLP)]
            runs.append((torch.stack(halves) > 0).any(0).to(heads))
            kept.append(heads * runs[-1])
    share = global_mean(torch.cat(runs).mean())
    return global_mean(torch.cat(kept).mean()) / share.clamp(min=1e-6)
