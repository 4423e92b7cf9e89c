"""What the sparsity loss pulls to its target: the network's MACs or its predicted latency."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from las_mm.accounting import CODES, ReleasedRatios, released_fixed_macs, released_ratios
from las_mm.checks import check_number
from las_mm.config.input_size import configured_input_size
from las_mm.latency.description import require_description
from las_mm.latency.fit import fit_latency, uniform_shares
from las_mm.layers import DILATED, EncoderBranch
from las_mm.models import DynamicBackbone
from latency_predictor import LatencyModel

from .learning import Forward, learning_backbone

# Equal rates below it would leave blocks out for most images. On small images, where launches take
# most of the time, latency hardly falls before that; the loss then is flat, and the task's is not.
LEAST_RATE = 0.05
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

    def prepare(self, model: nn.Module, runner: Runner, backbone: str | None = None) -> None:
        """Look at the model once, before its first forward.

        Args:
            model: The model.
            runner: What trains it.
            backbone: Name of the backbone to pull there, see
                :func:`~las_mm.hooks.learning.learning_backbone`.
        """
        self.model, self.backbone = model, learning_backbone(model, backbone)

    @abstractmethod
    def ratios(self, forwards: list[Forward]) -> tuple[Tensor, Tensor]:
        """The network's ratio, a scalar, and each block's, (blocks,), over the images of a step.

        Args:
            forwards: The forwards of the backbone to learn from.
        """


class FlopsTarget(Target):
    """t = F_dyn / F_stat (Sec. 3.5)."""

    name = 'flops'

    def __init__(self, ratio: float, code: str | None = None) -> None:
        check_number('target', ratio, lambda t: 0 < t <= 1, 'in (0, 1], such as 0.5')
        self.value = self.rate = ratio
        self.code = code

    def prepare(self, model: nn.Module, runner: Runner, backbone: str | None = None) -> None:
        super().prepare(model, runner, backbone)
        kinds = [block.branch for block in self.backbone.blocks]
        if self.code and any(isinstance(branch, EncoderBranch) for branch in kinds):
            raise ValueError(
                f'as_released: got {self.code!r} for a {self.backbone.title}, and that code counts '
                'convolutions; leave it out'
            )

    def ratios(self, forwards: list[Forward]) -> tuple[Tensor, Tensor]:
        if self.code is None:
            return flops_ratios(forwards)
        ratios = [as_released(self.model, self.backbone, f, self.code) for f in forwards]
        blocks = torch.stack([r.blocks for r in ratios])
        return torch.stack([r.network for r in ratios]).mean(), blocks.mean(0)


def as_released(
    model: nn.Module, backbone: DynamicBackbone, forward: Forward, code: str
) -> ReleasedRatios:
    """The ratios of one forward as the authors' training code counts them.

    Args:
        model: The model; a classifier's average pooling and linear layers count.
        backbone: Its backbone.
        forward: One of its forwards.
        code: Whose code, see :mod:`las_mm.accounting.released`.
    """
    fixed, traces = released_fixed_macs(forward.stem_sizes), forward.traces
    head = getattr(model, 'head', None)
    linear = [] if head is None else [m for m in head.modules() if isinstance(m, nn.Linear)]
    if not linear:
        return released_ratios(backbone.blocks, traces, fixed, code)
    channels, pixels = linear[0].in_features, prod(traces[-1].size)
    fixed += channels + sum(layer.weight.numel() for layer in linear)
    extra = channels * (pixels - 1) + sum(layer.out_features for layer in linear)
    return released_ratios(backbone.blocks, traces, fixed, code, extra)


def flops_ratios(forwards: list[Forward]) -> tuple[Tensor, Tensor]:
    """F_dyn / F_stat of a network, a scalar, and of its blocks, (blocks,): means over images."""
    network, blocks = [], []
    for forward in forwards:
        cost, shares = forward.cost, [trace.shares for trace in forward.traces]
        network.append(torch.as_tensor(cost.dynamic(shares) / cost.static))
        pairs = zip(cost.blocks, forward.traces, strict=True)
        # A block that decides on nothing has one ratio for all images.
        ratios = [
            t.activation_rate.new_ones(()) * (b.dynamic(t.shares) / b.static) for b, t in pairs
        ]
        blocks.append(torch.stack([r.expand(forward.traces[0].images) for r in ratios]))
    return torch.cat(network).mean(), torch.cat(blocks, 1).mean(1)


class BranchTarget(FlopsTarget):
    """t = Σ F_dyn / Σ F_stat of the convolutions that skip pixels (DynConv)."""

    def ratios(self, forwards: list[Forward]) -> tuple[Tensor, Tensor]:
        return branch_ratios(forwards)


def branch_ratios(forwards: list[Forward]) -> tuple[Tensor, Tensor]:
    """As :func:`flops_ratios`, of what blocks can skip alone; dilated pixels have no gradient."""
    active, static = [], []  # (blocks, images) of each forward
    for forward in forwards:
        both = zip(forward.cost.blocks, forward.traces, strict=True)
        pairs = [(cost, _half_detached(trace.shares)) for cost, trace in both]
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

    def prepare(self, model: nn.Module, runner: Runner, backbone: str | None = None) -> None:
        super().prepare(model, runner, backbone)
        size = self.target.get('input_size') or configured_input_size(runner.cfg)
        network = require_description(self.backbone, (size[0], size[1]))
        fit = fit_latency(self.predictor, network)
        self.static_ms = fit.static_us / 1e3
        self.value = self.target.get('latency') or self.target['latency_ms'] / self.static_ms
        low, high = (fit.ratio(uniform_shares(network, rate)).item() for rate in (LEAST_RATE, 1))
        if not low < self.value <= high:
            raise ValueError(
                f'target: {dict(self.target)} is {self.value:.3f} of the static latency, '
                f'{self.static_ms:.3f} ms at {size[0]}×{size[1]}, and out of reach: the ratio goes '
                f'from {low:.3f} at rates of {LEAST_RATE}, the least that training settles at, to '
                f'{high:.3f} with nothing skipped; choose between, or take larger images'
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

    def ratios(self, forwards: list[Forward]) -> tuple[Tensor, Tensor]:
        blocks = zip(*(forward.traces for forward in forwards), strict=True)
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


def make_target(
    target: float | Mapping[str, Any], as_released: bool | str = False, counted: str = 'network'
) -> Target:
    """The target that an option asks for: a number for FLOPs, a mapping for latency.

    Args:
        target: The option.
        as_released: Whose code is to count the FLOPs, False for the exact count.
        counted: Of what FLOPs are counted.

    Raises:
        TypeError, ValueError: If one of them is not one of the allowed ones.
    """
    if as_released not in (False, True, *CODES):
        allowed = ', '.join(map(repr, (False, True, *CODES)))
        raise ValueError(f'as_released: got {as_released!r}; choose one of {allowed}')
    if counted not in COUNTED:
        raise ValueError(f'counted: got {counted!r}; choose one of {", ".join(COUNTED)}')
    if as_released and counted != 'network':
        raise ValueError(f'counted: got {counted!r} with as_released; leave one of them out')
    if not isinstance(target, Mapping):
        code = CODES[-1] if as_released is True else as_released or None
        return COUNTED[counted](target, code)
    if as_released:
        raise ValueError(
            'as_released: is about FLOPs, and the target is a latency; leave one of them out'
        )
    if counted != 'network':
        raise ValueError(f'counted: got {counted!r} with a latency as target; leave it out')
    return LatencyTarget(target)
