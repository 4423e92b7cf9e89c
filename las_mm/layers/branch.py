"""Branch: what a residual or dense block computes, step by step, and what each step may skip.

A block is a list of steps, a step names the shares that it runs at, and a decision gives a share.
Dense execution, folding, accounting, the trace and the latency predictor all read this one text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import Tensor, nn

from las_mm.ops import conv_size, dilate_mask

from .decision import BRANCH, CHANNELS, SITES, Decision

# Shares that follow from decisions: of the pixels that the next step reads, and of the pairs of
# input and output channels within the groups of a grouped convolution.
DILATED, PAIRS = 'dilated', 'channel_pairs'


@dataclass(frozen=True)
class Step:
    """A convolution with the norm and the activation that belong to it.

    Attributes:
        name: Its name in the block, such as ``conv1``.
        op: The convolution, "same"-padded.
        norm: The norm after it.
        act: The activation after the norm; None where the block goes on without one.
        runs_at: Names of the shares that its work is multiplied by: ``'sites'`` where it runs at
            the active pixels alone, ``'dilated'`` where at those that the next step reads;
            ``'channels'`` once for its inputs and once for its outputs, where these are decided on,
            or ``'channel_pairs'`` for both in a grouped convolution.
        norm_first: Whether norm and activation stand before the convolution.
    """

    name: str
    op: nn.Conv2d
    norm: nn.Module
    act: nn.Module | None
    runs_at: tuple[str, ...] = (SITES,)
    norm_first: bool = False

    def prepare(self, x: Tensor) -> Tensor:
        """What comes before the convolution."""
        return self._normalise(x) if self.norm_first else x

    def run(self, x: Tensor, channels: Tensor | None = None, after: bool = False) -> Tensor:
        """Dense, (N, C, H, W) -> (N, C', H', W').

        Args:
            x: The step's input.
            channels: (N, C', 1, 1) mask of the active output channels; None if all are.
            after: Whether the mask stands after norm and activation, not before them.
        """
        x = self.op(self.prepare(x))
        if channels is not None and not after:
            x = x * channels.to(x.dtype)
        x = x if self.norm_first else self._normalise(x)
        return x * channels.to(x.dtype) if channels is not None and after else x

    def _normalise(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return x if self.act is None else self.act(x)

    @property
    def stride(self) -> int:
        """Stride of the convolution, the same in both directions."""
        return self.op.stride[0]


@dataclass(frozen=True)
class Work:
    """A part of what a block computes, for one image.

    Attributes:
        name: What it is, such as ``conv1``.
        macs: Multiply-accumulates if nothing is skipped.
        runs_at: Names of the shares that they are multiplied by; () for what always runs.
    """

    name: str
    macs: int
    runs_at: tuple[str, ...] = ()


@dataclass(frozen=True)
class Branch:
    """The steps of a block, and how their result joins the block's input.

    Attributes:
        steps: In order of execution.
        gate: Squeeze-and-excitation before the last step, None where there is none.
        shortcut: What the input goes through beside the steps; None for the identity.
        join: ``'add'`` to the shortcut, ``'concat'`` where new features stand beside the old
            ones, so that skipped pixels of them are zero, or ``'none'`` where the result is the
            output, so that nothing can be skipped.
        act_after: The activation after the join, None where there is none.
        zeroed: Whether skipped channels are zero, as in LAUDNet's RegNet, which masks them after
            the activation; its ResNet masks them before the norm, and so they carry the constant
            act(norm(0)).
    """

    steps: tuple[Step, ...]
    gate: Any = None
    shortcut: nn.Module | None = None
    join: str = 'add'
    act_after: nn.Module | None = None
    zeroed: bool = False

    @classmethod
    def residual(
        cls,
        layers: Iterable[tuple[nn.Conv2d, nn.Module]],
        act: nn.Module,
        shortcut: nn.Module | None = None,
        gate: Any = None,
        zeroed: bool = False,
    ) -> 'Branch':
        """A ResNet's branch: ``act(norm(conv))`` again and again, the last ``act`` after the sum.

        Args:
            layers: (convolution, norm) pairs; only the second convolution is larger than 1×1,
                or the first and the second of two.
            act: The activation.
            shortcut: As in the class.
            gate: As in the class.
            zeroed: As in the class.
        """
        steps = []
        pairs = list(layers)
        for index, (conv, norm) in enumerate(pairs, 1):
            runs_at = DILATED if index == 1 else SITES, *channel_shares(conv, index, len(pairs))
            steps.append(Step(f'conv{index}', conv, norm, act, runs_at))
        steps[-1] = replace(steps[-1], act=None)
        return cls(tuple(steps), gate, shortcut, act_after=act, zeroed=zeroed)

    @property
    def stride(self) -> int:
        """Stride of the whole branch."""
        return prod([step.stride for step in self.steps])

    def sizes(self, input_size: tuple[int, int]) -> list[tuple[int, int]]:
        """(H, W) of each step's output."""
        sizes = []
        for step in self.steps:
            input_size = conv_size(input_size, step.stride)
            sizes.append(input_size)
        return sizes

    def shares(
        self, decisions: Sequence[Decision], input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """(N,) share of every axis decided on, by name, and of the dilated sites if there are any.

        Args:
            decisions: The block's decisions of one forward.
            input_size: (H, W) of the block's input.
        """
        shares = {decision.axis: decision.share for decision in decisions}
        for decision in decisions:
            if decision.axis == SITES:
                shares[DILATED] = self.dilate(decision, input_size).mean((1, 2, 3))
            if decision.axis == CHANNELS and (grouped := self._grouped):
                within = decision.channels.float().flatten(1).unflatten(1, (grouped.op.groups, -1))
                shares[PAIRS] = within.mean(2).square().mean(1)
        return shares

    @property
    def _grouped(self) -> Step | None:
        return next((step for step in self.steps if PAIRS in step.runs_at), None)

    @property
    def inner_channels(self) -> int:
        """Channels between the steps, those that a channel masker decides on.

        Raises:
            ValueError: If they are not the same between all steps.
        """
        widths = {step.op.out_channels for step in self.steps[:-1]}
        if len(widths) > 1:
            raise ValueError(
                f'channel_groups: the block has {sorted(widths)} inner channels; '
                'leave channel_groups out for its stage'
            )
        return widths.pop()

    def dilate(self, decision: Decision, input_size: tuple[int, int]) -> Tensor:
        """(N, 1, H, W): the pixels of the dilated step's output that the next step reads.

        Args:
            decision: The decision on the sites.
            input_size: (H, W) of the block's input.
        """
        index = next(i for i, step in enumerate(self.steps) if DILATED in step.runs_at)
        reader = self.steps[index + 1].op
        geometry = reader.kernel_size[0], reader.stride[0], reader.dilation[0]
        return dilate_mask(decision.pixels.float(), self.sizes(input_size)[index], *geometry)

    def works(self, input_size: tuple[int, int], axes: Sequence[str]) -> tuple[Work, ...]:
        """What the static block computes for one image, and at which shares.

        Args:
            input_size: (H, W) of the block's input.
            axes: The axes that the block decides on.
        """
        decided = {*axes, *([DILATED] if SITES in axes else [])}
        decided |= {PAIRS} if CHANNELS in axes else set()
        whole = (BRANCH,) if BRANCH in axes else ()
        works = []
        for step, size in zip(self.steps, self.sizes(input_size), strict=True):
            runs_at = *(name for name in step.runs_at if name in decided), *whole
            works.append(Work(step.name, conv_macs(step.op, size), runs_at))
        gated = *((CHANNELS,) if CHANNELS in axes else ()), *whole
        works += [
            Work(f'gate.{index}', conv_macs(conv, (1, 1)), gated)
            for index, conv in enumerate(convs_of(self.gate))
        ]
        size = conv_size(input_size, self.stride)
        return (
            *works,
            *(Work('shortcut', conv_macs(conv, size)) for conv in convs_of(self.shortcut)),
        )


def convs_of(module: nn.Module | None) -> list[nn.Conv2d]:
    """The convolutions inside a module, in order."""
    parts = [] if module is None else module.modules()
    return [part for part in parts if isinstance(part, nn.Conv2d)]


def conv_macs(conv: nn.Conv2d, size: tuple[int, int]) -> int:
    """MACs of a convolution for one image, as OpenMMLab counts FLOPs.

    Args:
        conv: The convolution.
        size: (H, W) of its output.
    """
    weights = conv.out_channels * (conv.in_channels // conv.groups) * prod(conv.kernel_size)
    return prod(size) * weights


def channel_shares(conv: nn.Conv2d, index: int, steps: int) -> tuple[str, ...]:
    """The shares at which a convolution runs if the channels between steps are decided on.

    Args:
        conv: The convolution.
        index: Its place among the steps, from 1.
        steps: Number of steps.
    """
    sides = (index > 1) + (index < steps)
    if sides == 2 and conv.groups > 1:
        return (PAIRS,)
    return (CHANNELS,) * sides
