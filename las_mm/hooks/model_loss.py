"""How a hook adds losses to any detector or classifier without forking it."""

from abc import abstractmethod
from typing import Any, cast

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch._dynamo import OptimizedModule


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, ``torch.compile`` and the like, one or several."""
    while True:
        if is_model_wrapper(model):
            model = cast(nn.Module, model.module)
        elif isinstance(model, OptimizedModule):
            model = model._orig_mod
        else:
            return model


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
    their name count, the others are only logged. Works the same under DDP, AMP, gradient
    accumulation and ``torch.compile``, and is gone after training.

    Raises:
        ValueError: In training, if a step is taken without ``forward(mode='loss')`` of the model:
            the entries would be missing; or if its losses have an entry of the same name.
    """

    priority = 'NORMAL'

    def before_train(self, runner: Runner) -> None:
        model = unwrapped(runner.model)
        self.runner, self.added = runner, False
        self.prepare(model)
        self._handles = [
            model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
            model.register_forward_hook(self._after_forward, with_kwargs=True),
        ]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if not self.added:
            raise ValueError(
                f'{type(self).__name__}: {type(unwrapped(runner.model)).__name__} took a training '
                "step without its forward(mode='loss'), which this hook adds to; let train_step "
                "call self(**data, mode='loss')"
            )
        self.added = False

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()

    def prepare(self, model: nn.Module) -> None:
        """Look at the model once, before its first forward."""

    def start(self) -> None:
        """A forward in ``mode='loss'`` begins."""

    @abstractmethod
    def extra_losses(self, model: nn.Module, inputs: Any) -> dict[str, Tensor]:
        """Entries for the loss dict, after the model's forward on ``inputs``."""

    def __deepcopy__(self, memo: dict) -> 'ModelLossHook':
        """A copy of the model, which knows this hook, has the same one: runners have no copies."""
        return self

    @torch.compiler.disable
    def _before_forward(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        if kwargs.get('mode') == 'loss':
            self.start()

    @torch.compiler.disable
    def _after_forward(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if kwargs.get('mode') == 'loss':
            inputs = args[0] if args else kwargs['inputs']
            extra = self.extra_losses(model, inputs)
            taken = next((name for name in extra if name in output), None)
            if taken:
                raise ValueError(
                    f'{type(self).__name__}: {taken} is among the losses already, of the model or '
                    'of another hook; leave one of them out, or give each its backbone'
                )
            output.update(extra)
            self.added = True
