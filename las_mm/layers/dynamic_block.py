"""What makes a residual block dynamic, whichever framework the block comes from (Sec. 3.2)."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from las_mm.ops import conv_size
from las_mm.ops.fork import fork
from las_mm.ops.gradients import is_recorded, wants_gradients
from las_mm.ops.masked_sum import masked_sum_relu

from .branch import Branch
from .executor import Executor, Masks, Run
from .maskers import BranchMasker, Masker, PatchMasker
from .numbering import number_block
from .squeeze_masker import make_masker
from .trace import BlockTrace

# Attributes, and so parts of state-dict names, of a block's maskers.
MASKERS = ('masker', 'branch_masker')
# What is of a forward and not of the block.
LEFT_BEHIND = ('_last', '_trace')


class DynamicBlock(nn.Module):
    """Mixin that turns a residual block into a dynamic one.

    It expects of the block what torchvision's, mmdet's and mmpretrain's have in common:
    ``conv1, conv2[, conv3]``, ``norm1, norm2[, norm3]``, ``relu``, ``downsample`` and ``with_cp``;
    a block built otherwise overrides :attr:`branch`. Until :meth:`make_dynamic` is called the block
    stays static. The output is

        relu(M ⊙ branch(x) + identity(x)),

    with M the masker's decision upsampled by S: skipped pixels carry relu(identity).
    """

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d
    relu: nn.Module
    downsample: nn.Module | None
    masker: PatchMasker
    branch_masker: BranchMasker
    name: str = ''
    stage: int = 0
    executor: 'Executor[DynamicBlock] | None' = None
    generation: int = 0
    with_cp: bool = False
    _last: tuple[Masks, tuple[int, int]] | None = None  # of the last forward, and (H, W)
    _trace: BlockTrace | None = None

    if TYPE_CHECKING:  # at run time these would hide the framework's

        @property
        def norm1(self) -> nn.Module: ...

        @property
        def norm2(self) -> nn.Module: ...

        @property
        def norm3(self) -> nn.Module: ...

    def make_dynamic(
        self, granularity: int | str, name: str = '', stage: int = 0, **masker: Any
    ) -> None:
        """Give the block a masker.

        Args:
            granularity: S, edge of a patch in pixels of the block's output; ``'all'`` to compute
                the whole block or nothing of it.
            name: The block's name in its backbone, used in traces and messages.
            stage: Its stage in the backbone, from 0.
            masker: ``kind`` and further arguments of :func:`~las_mm.layers.make_masker`.
        """
        self.name, self.stage = name, stage
        channels = self.branch.steps[0].op.in_channels
        made = make_masker(granularity, channels, self.stride_product, **masker)
        setattr(self, 'branch_masker' if isinstance(made, BranchMasker) else 'masker', made)
        self.number = number_block(self)

    def make_static(self) -> None:
        """Take the maskers away: what is left is the static block."""
        for name in MASKERS:
            self._modules.pop(name, None)

    @property
    def maskers(self) -> list[Masker]:
        """What decides for the block; none until :meth:`make_dynamic`."""
        named = [self._modules.get(name) for name in MASKERS]
        return [masker for masker in named if isinstance(masker, Masker)]

    @property
    def _maskers_train(self) -> bool:
        modes = [masker.training for masker in self.maskers]  # which torch.compile can follow
        return True in modes

    @property
    def is_dynamic(self) -> bool:
        """Whether the block has a masker."""
        return any(name in self._modules for name in MASKERS)

    @property
    def spatial_masker(self) -> Masker | None:
        """The masker that decides on the output's pixels, patch by patch or all at once."""
        return next(iter(self.maskers), None)

    @property
    def branch(self) -> Branch:
        """What the block computes; for a framework's basic block or bottleneck."""
        layers = [(self.conv1, self.norm1), (self.conv2, self.norm2)]
        if hasattr(self, 'conv3'):
            layers.append((self.conv3, self.norm3))
        return Branch.residual(layers, self.relu, self.downsample, self.gate)

    @property
    def gate(self) -> nn.Module | None:
        """Squeeze-and-excitation before the last convolution; None where there is none."""
        return None

    @property
    def stride_product(self) -> int:
        """Stride of the whole block."""
        return self.branch.stride

    def body(self, x: Tensor, pixels: Tensor | None = None) -> Tensor:
        """The residual branch up to its last convolution, dense.

        Args:
            x: (N, C, H, W).
            pixels: (N, 1, H', W') mask of the active output pixels, for a gate that pools over
                them; None if all are.

        Returns:
            (N, C', H', W'), before the last norm where that follows the convolution.
        """
        branch = self.branch
        *steps, last = branch.steps
        for step in steps:
            x = step(x)
        if branch.gate is not None:
            x = branch.gate(x, pixels)
        return last.op(last.prepare(x))

    def identity(self, x: Tensor) -> Tensor:
        """The shortcut, always dense: (N, C, H, W) -> (N, C', H', W')."""
        shortcut = self.branch.shortcut
        return x if shortcut is None else shortcut(x)

    def drop(self, factor: Tensor) -> Tensor:
        """What multiplies the branch, in training zero for some samples if the block drops them."""
        return factor

    def finish(self, out: Tensor, x: Tensor, pixels: Tensor | None = None) -> Tensor:
        """The block's output, given that of its last convolution.

        Args:
            out: (N, C', H', W').
            x: (N, C, H, W) input of the block.
            pixels: (N, 1, H', W') mask of the active output pixels; None in a static block.
        """
        branch = self.branch
        if branch.join == 'concat':
            return out if pixels is None else out * pixels.to(out.dtype)
        norm, act = branch.steps[-1].norm, branch.act_after
        if pixels is not None and isinstance(act, nn.ReLU):
            return masked_sum_relu(out, norm, self.drop(pixels), self.identity(x))
        out = norm(out)
        out = self.drop(out) if pixels is None else out * self.drop(pixels).to(out.dtype)
        out = out + self.identity(x)
        return out if act is None else act(out)

    def compute(
        self, x: Tensor, pixels: Tensor | None = None, shortcut: Tensor | None = None
    ) -> Tensor:
        """The block's dense output, computed again in the backward pass if ``with_cp``.

        Args:
            x: (N, C, H, W).
            pixels: (N, 1, H', W') mask of the active output pixels; None in a static block.
            shortcut: x once more, if the gradients of its two uses are to come apart.

        Returns:
            (N, C', H', W').
        """

        def run(x: Tensor, shortcut: Tensor, pixels: Tensor | None) -> Tensor:
            return self.finish(self.body(x, pixels), shortcut, pixels)

        inputs = x, x if shortcut is None else shortcut, pixels
        if not (self.with_cp and x.requires_grad):
            return run(*inputs)
        # The second forward must not move the running statistics a second time.
        contexts = nullcontext(), untracked(self)
        return checkpoint(run, *inputs, use_reentrant=False, context_fn=lambda: contexts)

    def run_dense(self, x: Tensor) -> tuple[Tensor, Masks]:
        """The reference, and the only way to train: all is computed, then multiplied by the mask.

        Batch norms see dense statistics.

        Args:
            x: (N, C, H, W).

        Returns:
            The output (N, C', H', W') and the masks of :attr:`maskers`.
        """
        masker = self.spatial_masker
        if masker is None:
            return self.compute(x), ()
        window = masker.window if masker.training else None
        inner, shortcut, pooled = (x, x, None) if window is None else fork(x, window)
        mask = masker(x, pooled)
        decision = masker.decision(mask, conv_size(x.shape[-2:], self.stride_product))
        return self.compute(inner, decision.pixels, shortcut), (mask,)

    def forward(self, x: Tensor, private: bool = False) -> Tensor:
        """Run the block; :attr:`trace` then says what it did.

        Args:
            x: (N, C, H, W).
            private: Whether ``x`` is another block's output that nobody else will read, so that an
                executor may write over it.

        Returns:
            (N, C', H', W').
        """
        size = x.shape[-2], x.shape[-1]
        self.check_granularity(size)
        run = self._choose(x)
        out, masks = self.run_dense(x) if run is None else run(x, private)
        if masks:
            self.remember(masks, size)
        return out

    def _choose(self, x: Tensor) -> Run | None:
        """What runs the block on x; None for its own dense forward.

        Training is dense, and nothing made of the parameters before it may survive it.
        """
        executor = self.executor
        if self.training or self._maskers_train:
            self.generation += 1
            return None
        if executor is None or is_recorded():
            return None
        if wants_gradients(self, x):
            self.generation += 1
            log_once(
                f"executor: 'dense' instead of {executor.name!r} while gradients are wanted, which "
                'is slower; call the model within torch.no_grad() or torch.inference_mode()'
            )
            return None
        executor = executor.on(x)
        while executor is not None:
            run = executor.prepare(self, x)
            if not isinstance(run, str):
                return run
            fallback = executor.fallback
            name = 'dense' if fallback is None else fallback.name
            log_once(f'executor: {name!r} instead of {executor.name!r} for some blocks: {run}')
            executor = fallback
        return None

    def remember(self, masks: Masks, input_size: tuple[int, int]) -> None:
        """Keep what the maskers decided for :attr:`trace`.

        Args:
            masks: The coarse masks of :attr:`maskers`.
            input_size: (H, W) of the block's input.
        """
        self._last, self._trace = (masks, input_size), None

    @property
    def last_masks(self) -> tuple[Masks, tuple[int, int]] | None:
        """What :meth:`remember` was told last; None before the first forward."""
        return self._last

    @property
    def trace(self) -> BlockTrace | None:
        """What the block did in its last forward; None before the first one."""
        if self._trace is None and self._last is not None:
            # Made when first asked for: inference may never ask.
            self._trace = self._trace_of(*self._last)
        return self._trace

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles leave the trace behind: it is of a forward, not of the block."""
        return {key: value for key, value in self.__dict__.items() if key not in LEFT_BEHIND}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies are blocks of their own."""
        super().__setstate__(state)
        if self.is_dynamic:
            self.number = number_block(self)

    def check_granularity(self, input_size: tuple[int, int]) -> None:
        """Refuse patches that are larger than the feature.

        Raises:
            ValueError: If S exceeds both sides of the output for an input of this (H, W).
        """
        masker = self.spatial_masker
        if not isinstance(masker, PatchMasker) or masker.window < max(input_size):
            return
        height, width = conv_size(input_size, self.stride_product)
        if masker.granularity > max(height, width):
            raise ValueError(
                f'granularity: block {self.name} has S={masker.granularity}, larger than its '
                f'{height}x{width} feature map; choose S <= {max(height, width)} for this stage, '
                "'all' to compute blocks whole or not at all, or a larger input"
            )

    def _trace_of(self, masks: Masks, input_size: tuple[int, int]) -> BlockTrace:
        branch = self.branch
        size = conv_size(input_size, branch.stride)
        decisions = [m.decision(mask, size) for m, mask in zip(self.maskers, masks, strict=True)]
        return BlockTrace(self.name, self.stage, tuple(decisions), branch, input_size)


@cache
def log_once(message: str) -> None:
    """Warn of something that would be said for every block."""
    logging.getLogger('las_mm').warning(message)


@contextmanager
def untracked(block: nn.Module) -> Iterator[None]:
    """Keep batch norms from moving their running statistics, in whichever mode they are."""
    norms = [part for part in block.modules() if isinstance(part, _NormBase)]
    tracking = [norm for norm in norms if norm.track_running_stats]
    states = [(norm.momentum, norm.num_batches_tracked) for norm in tracking]
    for norm in tracking:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, state in zip(tracking, states, strict=True):
            norm.momentum, norm.num_batches_tracked = state
