"""Schedule of the Gumbel temperature τ."""

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
        by_epoch: Whether τ changes once per epoch instead of every iteration.
        noise_until: Share of training after which decisions are taken without Gumbel noise, as in
            inference; 1 in the paper. The noise has the same spread at every τ, so after a short
            training many sampled decisions differ from those of inference, and F_dyn / F_stat
            with them. A last part without noise closes that gap.

    Raises:
        TypeError, ValueError: If a temperature is not a positive number, or ``noise_until`` not one
            in [0, 1].

    Example:
        >>> custom_hooks = [dict(type='GumbelTemperatureHook', start=5.0, end=0.1)]
    """

    def __init__(
        self,
        start: float = 5.0,
        end: float | None = None,
        by_epoch: bool = False,
        noise_until: float = 1.0,
    ) -> None:
        self.start, self.end = start, start if end is None else end
        self.by_epoch, self.noise_until = by_epoch, noise_until
        check_number('start', self.start, lambda tau: tau > 0, 'a temperature > 0')
        check_number('end', self.end, lambda tau: tau > 0, 'a temperature > 0')
        check_number('noise_until', noise_until, lambda p: 0 <= p <= 1, 'in [0, 1], 1 is always')

    def temperature(self, progress: float) -> float:
        """τ at ``progress`` in [0, 1]."""
        return self.start * (self.end / self.start) ** progress

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        progress = training_progress(runner, self.by_epoch)
        temperature = self.temperature(progress)
        for backbone in dynamic_backbones(unwrapped(runner.model)).values():
            backbone.set_temperature(temperature, noise=progress < self.noise_until)
        runner.message_hub.update_scalar('train/temperature', temperature)
