"""What losses of a dynamic backbone's rates share: whose forwards count, what is logged."""

from abc import abstractmethod
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.runner import Runner
from torch import Tensor, nn

from las_mm.models import DynamicBackbone
from las_mm.models.backbone import classifier_macs

from .learning import Forward, check_gradients, learning_backbone, learns
from .model_loss import ModelLossHook, training_progress
from .rates import RATES, NoiseGap, mean_rates, stage_rates
from .sparsity_target import flops_ratios


class BackboneLossHook(ModelLossHook):
    """A loss of what a dynamic backbone computed in a step.

    Of a step that runs the backbone several times, the images of all forwards count that learn: in
    training mode and with gradients, so not those of a teacher, or of averaged weights.

    Logged beside the loss: ``flops_ratio``, F_dyn / F_stat, and the mean rate of each axis that
    blocks decide on: ``activation_rate`` of pixels and ``channel_rate``, in transformers
    ``token_rate``, ``head_rate`` and ``block_rate``; each also of every stage
    (``activation_rate_1`` …). A training whose sampled decisions end far from those of inference is
    warned about: see ``noise_until`` of :class:`~las_mm.hooks.GumbelTemperatureHook`.

    Args:
        backbone: Name in the model of the dynamic backbone, where it trains several.

    Raises:
        ValueError: Before training, if several backbones learn; in training, if the backbone ran
            in no forward to learn from.
    """

    def __init__(self, backbone: str | None = None) -> None:
        self.backbone_name = backbone

    def prepare(self, model: nn.Module) -> None:
        self.backbone = learning_backbone(model, self.backbone_name)
        self.extra_macs = classifier_macs(model)
        self.forwards: list[Forward] = []  # of a step
        self.noise_gap = NoiseGap()
        self.backbone_handle = self.backbone.register_forward_hook(self._keep_forward)

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        self.backbone_handle.remove()
        if warning := self.noise_gap.warning(type(self).__name__):
            self.runner.logger.warning(warning)

    def start(self) -> None:
        self.forwards.clear()

    @torch.compiler.disable
    def _keep_forward(self, backbone: DynamicBackbone, args: tuple, outs: Any) -> None:
        """A model may run its backbone several times in a step, at several sizes."""
        if learns(backbone):
            traces = backbone.traces
            check_gradients(backbone, traces)
            cost = backbone.cost(self.extra_macs, traces)
            self.forwards.append(Forward(traces, cost, backbone.stem_sizes))
            self.noise_gap.add(training_progress(self.runner), backbone, traces)

    def extra_losses(self, model: nn.Module, inputs: Any) -> dict[str, Tensor]:
        forwards = self.forwards
        if not forwards:
            raise ValueError(
                f'{type(self).__name__}: the backbone of the {type(model).__name__} ran in no '
                'forward to learn from, in training mode and with gradients; name the one that '
                "does, such as backbone='student.backbone', or leave the hook out"
            )
        rates = {axis: global_mean(r) for axis, r in mean_rates(forwards).items()}
        flops_ratio, _ = flops_ratios(forwards)
        losses = self.rate_losses(rates)
        logged = {
            'flops_ratio': global_mean(flops_ratio.detach()),
            **{RATES[axis]: axis_rates.detach().mean() for axis, axis_rates in rates.items()},
            **stage_rates(rates, forwards[0].traces),
        }
        prefix = f'{self.backbone_name}.' if self.backbone_name else ''
        # A ratio that is counted otherwise goes before the exact one.
        return {f'{prefix}{name}': value for name, value in (losses | logged | losses).items()}

    @abstractmethod
    def rate_losses(self, rates: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of a step, and what else is to be logged.

        Args:
            rates: The rate of each block that decides on an axis, (blocks,), by the axis; means
                over the images of all forwards and over processes.
        """


def global_mean(rates: Tensor) -> Tensor:
    """Mean over processes in value, with the local gradient.

    DDP averages the processes' gradients, which makes that of the global mean of the local ones.
    """
    if get_world_size() == 1:
        return rates
    mean = rates.detach().clone()
    all_reduce(mean, op='mean')
    return mean + (rates - rates.detach())
