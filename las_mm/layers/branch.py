"""Branch: what a residual or dense block computes, step by step, and what each step may skip.

A block is a list of steps, a step names the shares that it runs at, and a decision gives a share.
Dense execution, folding, accounting, the trace and the latency predictor all read this one text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import Tensor, nn

from las_mm.ops import conv_size, dilate_mask

from .decision import BRANCH, SITES, Decision

DILATED = 'dilated'


@dataclass(frozen=True)
class Step:
    """A convolution with the norm and the activation that belong to it.

    Attributes:
        name: Its name in the block, such as ``conv1``.
        op: The convolution, "same"-padded.
        norm: The norm after it.
        act: The activation after the norm; None where the block goes on without one.
        runs_at: Names of the shares that its work is multiplied by: ``'sites'`` where it runs at
            the active pixels alone, ``'dilated'`` where at those that the next step reads.
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

    def run(self, x: Tensor) -> Tensor:
        """Dense, (N, C, H, W) -> (N, C', H', W')."""
        x = self.op(self.prepare(x))
        return x if self.norm_first else self._normalise(x)

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
        join: ``'add'`` to the shortcut, or ``'concat'`` where new features stand beside the old
            ones, so that skipped pixels of them are zero.
        act_after: The activation after the join, None where there is none.
    """

    steps: tuple[Step, ...]
    gate: Any = None
    shortcut: nn.Module | None = None
    join: str = 'add'
    act_after: nn.Module | None = None

    @classmethod
    def residual(
        cls,
        layers: Sequence[tuple[nn.Conv2d, nn.Module]],
        act: nn.Module,
        shortcut: nn.Module | None = None,
        gate: Any = None,
    ) -> 'Branch':
        """A ResNet's branch: ``act(norm(conv))`` again and again, the last ``act`` after the sum.

        Args:
            layers: (convolution, norm) pairs; only the second convolution is larger than 1×1,
                or the first and the second of two.
            act: The activation.
            shortcut: As in the class.
            gate: As in the class.
        """
        steps = [
            Step(f'conv{index}', conv, norm, act, (SITES,) if index > 1 else (DILATED,))
            for index, (conv, norm) in enumerate(layers, 1)
        ]
        steps[-1] = replace(steps[-1], act=None)
        return cls(tuple(steps), gate, shortcut, act_after=act)

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
        return shares

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
        whole = (BRANCH,) if BRANCH in axes else ()
        works = []
        for step, size in zip(self.steps, self.sizes(input_size), strict=True):
            runs_at = *(name for name in step.runs_at if name in decided), *whole
            works.append(Work(step.name, conv_macs(step.op, size), runs_at))
        works += [
            Work(f'gate.{index}', conv_macs(conv, (1, 1)), whole)
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
    return prod(size) * conv.weight.numel()
