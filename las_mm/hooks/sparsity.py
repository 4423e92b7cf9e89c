"""L_FLOPs, or a latency in its place, and L_bounds (Sec. 3.5) for any dynamic backbone."""

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from las_mm.checks import check_number
from las_mm.layers import BlockTrace
from las_mm.losses import bounds_loss, flops_loss, open_bounds
from las_mm.models import DynamicBackbone

from .model_loss import ModelLossHook, training_progress
from .sparsity_target import flops_ratios, make_target


@HOOKS.register_module()
class SparsityLossHook(ModelLossHook):
    """Adds α·(L_FLOPs + L_bounds) of Eq. 2 as ``loss_flops`` and ``loss_bounds``.

    With a latency as target, L_FLOPs becomes ``loss_latency``, (ℓ_dyn/ℓ_stat − t)², where ℓ is the
    backbone's predicted latency as a piecewise-linear function of its rates
    (:mod:`las_mm.latency.fit`); how well it fits the predictor is logged at the start.

    Of a step that runs the backbone several times, the images of all forwards count.

    Logged beside them: ``flops_ratio``, F_dyn / F_stat, the mean ``activation_rate``, and
    ``latency_ratio`` where latency is the target.

    Args:
        target: t in (0, 1], the wanted F_dyn / F_stat; or a mapping with ``latency``, the wanted
            ℓ_dyn / ℓ_stat, or ``latency_ms``, the wanted ℓ_dyn for one image, and ``device``, a
            name or description file; further ``input_size``, (H, W) to predict at, by default the
            largest that the config tests at, and ``precision``.
        alpha: α.
        bounds: Whether L_bounds is added.
        bounded: What L_bounds bounds in each block: its ``'activation_rate'`` as in the paper, or
            its ``'flops_ratio'`` as in the authors' training code; with a latency as target
            ``'latency_ratio'`` in its place. Rates start from t; with a latency, from the equal
            rate of all blocks that meets it.
        counted: Whose FLOPs make up L_FLOPs and ``'flops_ratio'``: the whole ``'network'``, or only
            ``'branches'``, as in DynConv: the convolutions that skip pixels, without stem,
            shortcuts, maskers and classifier, and the dilated pixels without a gradient.
        duration: Share of training after which the bounds are open.
        by_epoch: Whether the bounds move once per epoch instead of every iteration.

    Raises:
        TypeError, ValueError: If an argument is not one of the allowed ones; before training, if
            no rates meet the latency.

    Example:
        >>> custom_hooks = [dict(type='SparsityLossHook', target=0.5)]
        >>> # The authors' detection code: L_FLOPs alone, with weight 1.
        >>> custom_hooks = [dict(type='SparsityLossHook', target=0.5, alpha=1.0, bounds=False)]
        >>> custom_hooks = [dict(type='SparsityLossHook', target=dict(latency=0.6, device='tx2'))]
    """

    def __init__(
        self,
        target: float | dict = 0.5,
        alpha: float = 10.0,
        bounds: bool = True,
        bounded: str = 'activation_rate',
        duration: float = 0.33,
        by_epoch: bool = False,
        counted: str = 'network',
    ) -> None:
        self.target = make_target(target, counted)
        check_number('alpha', alpha, lambda a: a >= 0, '>= 0, 10 in the paper')
        check_number('duration', duration, lambda d: 0 < d <= 1, 'in (0, 1], such as 0.33')
        allowed = ('activation_rate', f'{self.target.name}_ratio')
        if bounded not in allowed:
            raise ValueError(f'bounded: got {bounded!r}; choose one of {", ".join(allowed)}')
        self.alpha = alpha
        self.bounds, self.bounded, self.duration = bounds, bounded, duration
        self.by_epoch = by_epoch

    def prepare(self, model: nn.Module) -> None:
        self.target.prepare(model, self.runner)
        self.forwards: list[list[BlockTrace]] = []  # of a step
        self.backbone_handle = self.target.backbone.register_forward_hook(self._keep_traces)

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        self.backbone_handle.remove()

    def start(self) -> None:
        self.forwards.clear()

    @torch.compiler.disable
    def _keep_traces(self, backbone: DynamicBackbone, args: tuple, outs: Any) -> None:
        """A model may run its backbone several times in a step: all of them count."""
        self.forwards.append(backbone.traces)

    def extra_losses(self, model: nn.Module, inputs: Any) -> dict[str, Tensor]:
        name, forwards = self.target.name, self.forwards
        rates = global_mean(mean_rates(forwards))
        ratio, block_ratios = map(global_mean, self.target.ratios(forwards))
        flops_ratio, _ = flops_ratios(model, self.target.backbone, forwards)
        losses = {
            f'loss_{name}': self.alpha * flops_loss(ratio, self.target.value),
            'flops_ratio': global_mean(flops_ratio.detach()),
            f'{name}_ratio': ratio.detach(),
            'activation_rate': rates.detach().mean(),
        }
        if self.bounds:
            if self.bounded == 'activation_rate':
                bounded, start = rates, self.target.rate
            else:
                bounded, start = block_ratios, self.target.value
            progress = training_progress(self.runner, self.by_epoch)
            limits = open_bounds(progress, start, self.duration)
            losses['loss_bounds'] = self.alpha * bounds_loss(bounded, *limits)
        return losses


def mean_rates(forwards: list[list[BlockTrace]]) -> Tensor:
    """(blocks,) activation rate of each block, over the images of all forwards."""
    rates = [torch.stack([trace.activation_rate for trace in traces]) for traces in forwards]
    return torch.cat(rates, 1).mean(1)


def global_mean(rates: Tensor) -> Tensor:
    """Mean over processes in value, with the local gradient.

    DDP averages the processes' gradients, which makes that of the global mean of the local ones.
    """
    if get_world_size() == 1:
        return rates
    mean = rates.detach().clone()
    all_reduce(mean, op='mean')
    return mean + (rates - rates.detach())
