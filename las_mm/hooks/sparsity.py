"""L_FLOPs and L_bounds (Sec. 3.5) for any model with a dynamic backbone."""

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.registry import HOOKS
from torch import Tensor, nn

from las_mm.checks import check_number
from las_mm.losses import bounds, bounds_loss, flops_loss
from las_mm.models.backbone import classifier_macs, find_backbone

from .model_loss import ModelLossHook, training_progress

BOUNDED = ('activation_rate', 'flops_ratio')


@HOOKS.register_module()
class SparsityLossHook(ModelLossHook):
    """Adds α·(L_FLOPs + L_bounds) of Eq. 2 as ``loss_flops`` and ``loss_bounds``.

    Logged beside them: ``flops_ratio``, F_dyn / F_stat, and the mean ``activation_rate``.

    Args:
        target: t in (0, 1], the wanted F_dyn / F_stat.
        alpha: α.
        bounds: Whether L_bounds is added.
        bounded: What L_bounds bounds in each block: its ``'activation_rate'`` as in the paper, or
            its ``'flops_ratio'`` as in the authors' training code.
        duration: Share of training after which the bounds are open.
        by_epoch: Whether the bounds move once per epoch instead of every iteration.

    Raises:
        TypeError, ValueError: If an argument is not one of the allowed ones.

    Example:
        >>> custom_hooks = [dict(type='SparsityLossHook', target=0.5)]
        >>> # The authors' detection code: L_FLOPs alone, with weight 1.
        >>> custom_hooks = [dict(type='SparsityLossHook', target=0.5, alpha=1.0, bounds=False)]
    """

    def __init__(
        self,
        target: float = 0.5,
        alpha: float = 10.0,
        bounds: bool = True,
        bounded: str = 'activation_rate',
        duration: float = 0.33,
        by_epoch: bool = False,
    ) -> None:
        check_number('target', target, lambda t: 0 < t <= 1, 'in (0, 1], such as 0.5')
        check_number('alpha', alpha, lambda a: a >= 0, '>= 0, 10 in the paper')
        check_number('duration', duration, lambda d: 0 < d <= 1, 'in (0, 1], such as 0.33')
        if bounded not in BOUNDED:
            raise ValueError(f'bounded: got {bounded!r}; choose one of {", ".join(BOUNDED)}')
        self.target, self.alpha = target, alpha
        self.bounds, self.bounded, self.duration = bounds, bounded, duration
        self.by_epoch = by_epoch

    def prepare(self, model: nn.Module) -> None:
        self.backbone = find_backbone(model)

    def extra_losses(self, model: nn.Module, inputs: Any) -> dict[str, Tensor]:
        traces = self.backbone.traces
        rates = torch.stack([trace.activation_rate.mean() for trace in traces])
        dilated = torch.stack([trace.dilated_rate.mean() for trace in traces])
        rates, dilated = global_mean(rates), global_mean(dilated)
        cost = self.backbone.cost(classifier_macs(model))
        ratio = cost.dynamic(rates, dilated) / cost.static
        losses = {
            'loss_flops': self.alpha * flops_loss(ratio, self.target),
            'flops_ratio': ratio.detach(),
            'activation_rate': rates.detach().mean(),
        }
        if self.bounds:
            bounded = rates
            if self.bounded == 'flops_ratio':
                blocks = zip(cost.blocks, rates, dilated, strict=True)
                bounded = torch.stack([b.dynamic(r, d) / b.static for b, r, d in blocks])
            progress = training_progress(self.runner, self.by_epoch)
            limits = bounds(progress, self.target, self.duration)
            losses['loss_bounds'] = self.alpha * bounds_loss(bounded, *limits)
        return losses


def global_mean(rates: Tensor) -> Tensor:
    """Mean over processes in value, with the local gradient.

    DDP averages the processes' gradients, which makes that of the global mean of the local ones.
    """
    if get_world_size() == 1:
        return rates
    mean = rates.detach().clone()
    all_reduce(mean, op='mean')
    return mean + (rates - rates.detach())
