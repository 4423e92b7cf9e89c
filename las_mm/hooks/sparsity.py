"""L_FLOPs, or a latency in its place, and L_bounds (Sec. 3.5) for any dynamic backbone."""

import torch
from mmengine.registry import HOOKS
from torch import Tensor, nn

from las_mm.checks import check_number
from las_mm.losses import bounds_loss, flops_loss, open_bounds, start_rate

from .backbone_loss import BackboneLossHook, global_mean
from .model_loss import training_progress
from .sparsity_target import make_target


@HOOKS.register_module()
class SparsityLossHook(BackboneLossHook):
    """Adds α·(L_FLOPs + L_bounds) of Eq. 2 as ``loss_flops`` and ``loss_bounds``.

    With a latency as target, L_FLOPs becomes ``loss_latency``, (ℓ_dyn/ℓ_stat − t)², where ℓ is the
    backbone's predicted latency as a piecewise-linear function of its rates
    (:mod:`las_mm.latency.fit`); how well it fits the predictor is logged at the start.

    Of a step that runs the backbone several times, the images of all forwards count that learn: in
    training mode and with gradients, so not those of a teacher, or of averaged weights.

    Logged beside them: ``flops_ratio``, F_dyn / F_stat, and the mean rate of each axis that blocks
    decide on, ``activation_rate`` of pixels and ``channel_rate``, in transformers ``token_rate``,
    ``head_rate`` and ``block_rate``; each also of every stage (``activation_rate_1`` …);
    ``latency_ratio`` where latency is the target, and the target itself. A training whose sampled
    decisions end far from those of inference is warned about: see ``noise_until`` of
    :class:`~las_mm.hooks.GumbelTemperatureHook`.

    Args:
        target: t in (0, 1], the wanted F_dyn / F_stat; or a mapping with ``latency``, the wanted
            ℓ_dyn / ℓ_stat, or ``latency_ms``, the wanted ℓ_dyn for one image, and ``device``, a
            name or description file; further ``input_size``, (H, W) to predict at, by default the
            largest that the config tests at, and ``precision``.
        alpha: α.
        bounds: Whether L_bounds is added.
        bounded: What L_bounds bounds in each block: its ``'activation_rate'`` as in the paper, that
            is the rate of every axis it decides on, or its ``'flops_ratio'`` as in the authors'
            training code; with a latency as target ``'latency_ratio'`` in its place. Rates start
            from the equal ones that give t, see :func:`~las_mm.losses.start_rate`; with a latency,
            from those that meet it.
        counted: Whose FLOPs make up L_FLOPs and ``'flops_ratio'``: the whole ``'network'``, or only
            ``'branches'``, as in DynConv: the convolutions that skip pixels, without stem,
            shortcuts, maskers and classifier, and the dilated pixels without a gradient.
        duration: Share of training after which the bounds are open.
        by_epoch: Whether the bounds move once per epoch instead of every iteration.
        as_released: Whether to count and to differentiate as the authors' training code does, see
            :mod:`las_mm.accounting.released`, to repeat its runs: True or ``'laudnet'`` for
            LAUDNet's, ``'lasnet'`` for LASNet's. ``bounded`` and ``by_epoch`` then are theirs, too,
            if they are not given.
        backbone: Name in the model of the dynamic backbone, such as ``'rgb.backbone'``, where it
            trains several: one hook for each, whose entries then begin with that name.

    Raises:
        TypeError, ValueError: If an argument is not one of the allowed ones; before training, if
            no rates meet the latency or several backbones learn; in training, if the backbone ran
            in no forward to learn from.

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
        bounded: str | None = None,
        duration: float = 0.33,
        by_epoch: bool | None = None,
        as_released: bool | str = False,
        backbone: str | None = None,
        counted: str = 'network',
    ) -> None:
        super().__init__(backbone)
        self.target = make_target(target, as_released, counted)
        check_number('alpha', alpha, lambda a: a >= 0, '>= 0, 10 in the paper')
        check_number('duration', duration, lambda d: 0 < d <= 1, 'in (0, 1], such as 0.33')
        allowed = ('activation_rate', f'{self.target.name}_ratio')
        bounded = allowed[bool(as_released)] if bounded is None else bounded
        if bounded not in allowed:
            raise ValueError(f'bounded: got {bounded!r}; choose one of {", ".join(allowed)}')
        self.alpha = alpha
        self.bounds, self.bounded, self.duration = bounds, bounded, duration
        self.by_epoch = bool(as_released) if by_epoch is None else by_epoch

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        self.target.prepare(model, self.runner, self.backbone_name)

    def rate_losses(self, rates: dict[str, Tensor]) -> dict[str, Tensor]:
        name = self.target.name
        ratio, block_ratios = map(global_mean, self.target.ratios(self.forwards))
        losses = {
            f'loss_{name}': self.alpha * flops_loss(ratio, self.target.value),
            f'{name}_ratio': ratio.detach(),
            f'{name}_target': ratio.new_tensor(self.target.value),
        }
        if self.bounds:
            losses['loss_bounds'] = self.alpha * self._bounds(rates, block_ratios)
        return losses

    def _bounds(self, rates: dict[str, Tensor], block_ratios: Tensor) -> Tensor:
        """L_bounds; the mean over axes of what their rates' would be, where rates are bounded."""
        progress = training_progress(self.runner, self.by_epoch)
        if self.bounded != 'activation_rate':
            return bounds_loss(
                block_ratios, *open_bounds(progress, self.target.value, self.duration)
            )
        losses = []
        for axis, axis_rates in rates.items():
            start = start_rate(self.target.rate, axis, len(rates))
            limits = open_bounds(progress, start, self.duration)
            losses.append(bounds_loss(axis_rates, *limits))
        return torch.stack(losses).mean()
