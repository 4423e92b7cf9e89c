"""What the sparsity loss pulls to its target: the network's MACs or its predicted latency."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from las_mm.checks import check_number
from las_mm.config.input_size import configured_input_size
from las_mm.latency.description import require_description
from las_mm.latency.fit import fit_latency, uniform_shares
from las_mm.layers import DILATED, BlockTrace
from las_mm.models import DynamicBackbone
from las_mm.models.backbone import classifier_macs, find_backbone
from latency_predictor import LatencyModel

KEYS = ('latency', 'latency_ms', 'device', 'input_size', 'precision')


class Target(ABC):
    """A share of the static network's cost, as a differentiable function of the rates.

    Attributes:
        name: What is counted, ``'flops'`` or ``'latency'``.
        value: t, the wanted ratio to the static network.
        rate: The activation rate at which L_bounds starts.
    """

    name: str
    value: float
    rate: float

    def prepare(self, model: nn.Module, runner: Runner) -> None:
        """Look at the model once, before its first forward."""
        self.model, self.backbone = model, find_backbone(model)

    @abstractmethod
    def ratios(self, forwards: list[list[BlockTrace]]) -> tuple[Tensor, Tensor]:
        """The network's ratio, a scalar, and each block's, (blocks,), over the images of a step.

        Args:
            forwards: The traces of each forward of the backbone.
        """


class FlopsTarget(Target):
    """t = F_dyn / F_stat (Sec. 3.5)."""

    name = 'flops'

    def __init__(self, ratio: float) -> None:
        check_number('target', ratio, lambda t: 0 < t <= 1, 'in (0, 1], such as 0.5')
        self.value = self.rate = ratio

    def ratios(self, forwards: list[list[BlockTrace]]) -> tuple[Tensor, Tensor]:
        return flops_ratios(self.model, self.backbone, forwards)


def flops_ratios(
    model: nn.Module, backbone: DynamicBackbone, forwards: list[list[BlockTrace]]
) -> tuple[Tensor, Tensor]:
    """F_dyn / F_stat of a network, a scalar, and of its blocks, (blocks,): means over images.

    Args:
        model: The model, whose classifier counts.
        backbone: Its backbone.
        forwards: The traces of each forward of the backbone.
    """
    network, blocks = [], []
    for traces in forwards:
        cost = backbone.cost(classifier_macs(model), traces)
        shares = [trace.shares for trace in traces]
        network.append(torch.as_tensor(cost.dynamic(shares) / cost.static))
        pairs = zip(cost.blocks, shares, strict=True)
        blocks.append(torch.stack([torch.as_tensor(b.dynamic(s) / b.static) for b, s in pairs]))
    return torch.cat(network).mean(), torch.cat(blocks, 1).mean(1)


class BranchTarget(FlopsTarget):
    """t = Σ F_dyn / Σ F_stat of the convolutions that skip pixels (DynConv)."""

    def ratios(self, forwards: list[list[BlockTrace]]) -> tuple[Tensor, Tensor]:
        return branch_ratios(self.backbone, forwards)


def branch_ratios(
    backbone: DynamicBackbone, forwards: list[list[BlockTrace]]
) -> tuple[Tensor, Tensor]:
    """As :func:`flops_ratios`, of what blocks can skip alone; dilated pixels have no gradient."""
    active, static = [], []  # (blocks, images) of each forward
    for traces in forwards:
        costs = backbone.cost(traces=traces).blocks
        pairs = [
            (cost, _half_detached(trace.shares)) for cost, trace in zip(costs, traces, strict=True)
        ]
        active.append(torch.stack([torch.as_tensor(cost.skippable(s)) for cost, s in pairs]))
        whole = [float(cost.skippable(dict.fromkeys(s, 1.0))) for cost, s in pairs]
        static.append(active[-1].new_tensor(whole)[:, None].expand_as(active[-1]))
    spent, full = torch.cat(active, 1).sum(1), torch.cat(static, 1).sum(1)
    return spent.sum() / full.sum(), spent / full


def _half_detached(shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: s.detach() if name == DILATED else s for name, s in shares.items()}


class LatencyTarget(Target):
    """t = ℓ_dyn / ℓ_stat of the backbone on a device, as predicted (Sec. 3.3).

    Args:
        target: The mapping that :class:`~las_mm.hooks.SparsityLossHook` describes.

    Raises:
        TypeError, ValueError: If it is not one of the allowed ones.
    """

    name = 'latency'

    def __init__(self, target: Mapping[str, Any]) -> None:
        unknown = [key for key in target if key not in KEYS]
        if unknown:
            raise ValueError(f'target: unknown {unknown[0]!r}; allowed are {", ".join(KEYS)}')
        if ('latency' in target) == ('latency_ms' in target):
            raise ValueError('target: give one of latency (a ratio) and latency_ms, and a device')
        if 'device' not in target:
            raise ValueError("target: device is missing; name one, such as device='tx2'")
        for key in {'latency', 'latency_ms'} & set(target):
            check_number(f'target.{key}', target[key], lambda t: t > 0, '> 0')
        self.target = target
        self.predictor = LatencyModel(target['device'], target.get('precision', 'fp32'))

    def prepare(self, model: nn.Module, runner: Runner) -> None:
        super().prepare(model, runner)
        size = self.target.get('input_size') or configured_input_size(runner.cfg)
        network = require_description(self.backbone, (size[0], size[1]))
        fit = fit_latency(self.predictor, network)
        self.static_ms = fit.static_us / 1e3
        self.value = self.target.get('latency') or self.target['latency_ms'] / self.static_ms
        low, high = (fit.ratio(uniform_shares(network, rate)).item() for rate in (0, 1))
        if not low < self.value <= high:
            raise ValueError(
                f'target: {dict(self.target)} is {self.value:.3f} of the static latency, '
                f'{self.static_ms:.3f} ms at {size[0]}×{size[1]}, and out of reach: the ratio goes '
                f'from {low:.3f} with every patch skipped to {high:.3f} with none; choose between'
            )
        self.rate = _solve(lambda rate: fit.ratio(uniform_shares(network, rate)), self.value)
        self.fit = fit.to(next(model.parameters()).device)
        runner.logger.info(
            'predicted latency on %s at %d×%d: static %.3f ms, target %.3f ms (ratio %.3f), which '
            'equal rates of %.3f give; the fit errs by up to %.2f %% of the network, %.2f %% of a '
            'block',
            *(fit.device, *size, self.static_ms, self.value * self.static_ms, self.value),
            *(self.rate, 100 * fit.error, 100 * fit.block_error),
        )

    def ratios(self, forwards: list[list[BlockTrace]]) -> tuple[Tensor, Tensor]:
        blocks = zip(*forwards, strict=True)
        shares = [mean_shares([trace.shares for trace in traces]) for traces in blocks]
        return self.fit.ratio(shares), self.fit.block_ratios(shares)


def mean_shares(images: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean share of each axis, a scalar, over the images of several forwards."""
    return {name: torch.cat([shares[name] for shares in images]).mean() for name in images[0]}


def _solve(ratio: Callable[[float], Tensor], target: float, steps: int = 20) -> float:
    """The rate in [0, 1] at which ``ratio`` reaches ``target``, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if ratio(middle) < target else (low, middle)
    return (low + high) / 2


COUNTED = {'network': FlopsTarget, 'branches': BranchTarget}


def make_target(target: float | Mapping[str, Any], counted: str = 'network') -> Target:
    """The target that an option asks for: a number for FLOPs, a mapping for latency.

    Raises:
        TypeError, ValueError: If an option is not one of the allowed ones.
    """
    if counted not in COUNTED:
        raise ValueError(f'counted: got {counted!r}; choose one of {", ".join(COUNTED)}')
    if not isinstance(target, Mapping):
        return COUNTED[counted](target)
    if counted != 'network':
        raise ValueError(f'counted: got {counted!r} with a latency as target; leave it out')
    return LatencyTarget(target)
