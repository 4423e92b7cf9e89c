"""Schedule of the Gumbel temperature τ."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from las_mm.checks import check_number
from las_mm.models.backbone import dynamic_backbones

from .model_loss import training_progress, unwrapped


@HOOKS.register_module()
class GumbelTemperatureHook(Hook):
    """Sets τ of every masker: constant, or falling exponentially (Sec. 3.5, Appendix B.2, B.3).

    τ(p) = start·(end / start)^p at progress p; ImageNet uses 5 → 0.1, detection a constant 0.1.
    Of several dynamic backbones in a model, such as a student and its teacher, all have the same τ.

    Args:
        start: τ at the start of training.
        end: τ at its end; leave it out for a constant.
        steps: (share of training, τ) pairs: from each share on that τ is taken instead, as in
            DynConv, whose 100 epochs on ImageNet have 5, from the 30th on 2.5, from the 60th on 1.
        by_epoch: Whether τ changes once per epoch instead of every iteration.
        noise_until: Share of training after which decisions are taken without Gumbel noise, as in
            inference; 1 in the paper. The noise has the same spread at every τ, so after a short
            training many sampled decisions differ from those of inference, and F_dyn / F_stat
            with them. A last part without noise closes that gap.

    Raises:
        TypeError, ValueError: If a temperature is not a positive number, ``noise_until`` not one
            in [0, 1], or ``steps`` not pairs in ascending order.

    Example:
        >>> custom_hooks = [dict(type='GumbelTemperatureHook', start=5.0, end=0.1)]
        >>> steps = [(0.3, 2.5), (0.6, 1.0)]
        >>> custom_hooks = [dict(type='GumbelTemperatureHook', start=5.0, steps=steps)]
    """

    def __init__(
        self,
        start: float = 5.0,
        end: float | None = None,
        by_epoch: bool = False,
        noise_until: float = 1.0,
        steps: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.start, self.end = start, start if end is None else end
        self.by_epoch, self.noise_until = by_epoch, noise_until
        check_number('start', self.start, lambda tau: tau > 0, 'a temperature > 0')
        check_number('end', self.end, lambda tau: tau > 0, 'a temperature > 0')
        self.steps = check_steps(steps)
        check_number('noise_until', noise_until, lambda p: 0 <= p <= 1, 'in [0, 1], 1 is always')

    def temperature(self, progress: float) -> float:
        """τ at ``progress`` in [0, 1]."""
        passed = [temperature for since, temperature in self.steps if progress >= since]
        return passed[-1] if passed else self.start * (self.end / self.start) ** progress

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        progress = training_progress(runner, self.by_epoch)
        temperature = self.temperature(progress)
        for backbone in dynamic_backbones(unwrapped(runner.model)).values():
            backbone.set_temperature(temperature, noise=progress < self.noise_until)
        runner.message_hub.update_scalar('train/temperature', temperature)


def check_steps(steps: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The steps as a list.

    Raises:
        TypeError, ValueError: If they are not pairs of a share and a temperature, ascending.
    """
    hint = 'give pairs of a share of training and a temperature, such as [(0.3, 2.5), (0.6, 1.0)]'
    pairs = isinstance(steps, Sequence) and not isinstance(steps, str)
    if not pairs or any(not isinstance(s, Sequence) or len(s) != 2 for s in steps):
        raise TypeError(f'steps: got {steps!r}; {hint}')
    for since, temperature in steps:
        check_number('steps', since, lambda p: 0 <= p <= 1, 'a share of training in [0, 1]')
        check_number('steps', temperature, lambda tau: tau > 0, 'a temperature > 0')
    shares = [since for since, _ in steps]
    if shares != sorted(set(shares)):
        raise ValueError(f'steps: got {steps!r}; {hint}, the shares in ascending order')
    return [(since, temperature) for since, temperature in steps]
