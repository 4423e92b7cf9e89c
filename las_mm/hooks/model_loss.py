"""How a hook adds losses to any detector or classifier without forking it."""

from abc import abstractmethod
from typing import Any, cast

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel and the like."""
    return cast(nn.Module, model.module) if is_model_wrapper(model) else model


def training_progress(runner: Runner, by_epoch: bool = False) -> float:
    """Share of training done, in [0, 1]; a function of the loop's counters, so resume is exact.

    Args:
        runner: The runner.
        by_epoch: Whether progress advances once per epoch instead of every iteration.

    Raises:
        ValueError: If ``by_epoch`` and the training loop counts iterations only.
    """
    if not by_epoch:
        return min(1.0, runner.iter / runner.max_iters)
    if runner.max_epochs is None:
        raise ValueError('by_epoch: got True, but the training loop counts iterations; use False')
    return min(1.0, runner.epoch / runner.max_epochs)


class ModelLossHook(Hook):
    """Adds entries to the loss dict that the model returns in ``mode='loss'``.

    The entries are summed and logged by the model's own ``parse_losses``: those with ``loss`` in
    their name count, the others are only logged. Works the same under DDP, AMP and gradient
    accumulation, and is gone after training.
    """

    priority = 'NORMAL'

    def before_train(self, runner: Runner) -> None:
        model = unwrapped(runner.model)
        self.runner = runner
        self.prepare(model)
        self._handle = model.register_forward_hook(self._after_forward, with_kwargs=True)

    def after_train(self, runner: Runner) -> None:
        self._handle.remove()

    def prepare(self, model: nn.Module) -> None:
        """Look at the model once, before its first forward."""

    @abstractmethod
    def extra_losses(self, model: nn.Module, inputs: Any) -> dict[str, Tensor]:
        """Entries for the loss dict, after the model's forward on ``inputs``."""

    def _after_forward(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if kwargs.get('mode') == 'loss':
            inputs = args[0] if args else kwargs['inputs']
            output.update(self.extra_losses(model, inputs))
