"""What makes a residual block dynamic, whichever framework the block comes from (Sec. 3.2)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from las_mm.ops import conv_size
from las_mm.ops.executors import Executor, choose_executor
from las_mm.ops.executors.numbering import number_block
from las_mm.ops.folding import forget
from las_mm.ops.masked_sum import masked_sum_relu

from .masker import Masker
from .trace import BlockTrace


class DynamicBlock(nn.Module):
    """Mixin that turns a residual block into a spatial-wise dynamic one.

    It expects of the block what torchvision's, mmdet's and mmpretrain's have in common:
    ``conv1, conv2[, conv3]``, ``norm1, norm2[, norm3]``, ``relu``, ``downsample`` and ``with_cp``.
    Until :meth:`make_dynamic` is called the block stays static. The output is

        relu(M ⊙ branch(x) + identity(x)),

    with M the masker's decision upsampled by S: skipped pixels carry relu(identity).
    """

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d
    relu: nn.Module
    downsample: nn.Module | None
    masker: Masker
    name: str = ''
    executor: str = 'dense'
    with_cp: bool = False

    if TYPE_CHECKING:  # at run time these would hide the framework's

        @property
        def norm1(self) -> nn.Module: ...

        @property
        def norm2(self) -> nn.Module: ...

        @property
        def norm3(self) -> nn.Module: ...

    def make_dynamic(self, granularity: int, name: str = '', **masker: float) -> None:
        """Give the block a masker.

        Args:
            granularity: S, edge of a patch in pixels of the block's output.
            name: The block's name in its backbone, used in traces and messages.
            masker: Further arguments of :class:`Masker`.
        """
        self.name = name
        self.masker = Masker(self.conv1.in_channels, granularity, self.stride_product, **masker)
        self.number = number_block(self)

    @property
    def is_dynamic(self) -> bool:
        """Whether :meth:`make_dynamic` was called."""
        return hasattr(self, 'masker')

    @property
    def stride_product(self) -> int:
        """Stride of the whole block."""
        return self.conv1.stride[0] * self.conv2.stride[0]

    @property
    def plain_branch(self) -> bool:
        """Whether the branch is nothing more than :meth:`branch_layers` with ReLU between them
        and, if there are :attr:`gate_convs`, squeeze-and-excitation before the last convolution.
        """
        return True

    def branch_layers(self) -> Iterator[tuple[nn.Conv2d, nn.Module]]:
        """(convolution, normalisation) pairs of the residual branch, in order."""
        yield self.conv1, self.norm1
        yield self.conv2, self.norm2
        if hasattr(self, 'conv3'):
            yield self.conv3, self.norm3

    @property
    def gate_convs(self) -> Sequence[nn.Conv2d]:
        """The two convolutions of a :class:`~las_mm.layers.SqueezeExcitation`, which run once per
        image on pooled features; none by default.
        """
        return ()

    def body(self, x: Tensor, pixels: Tensor | None = None) -> Tensor:
        """The residual branch up to its last convolution, dense.

        Args:
            x: (N, C, H, W).
            pixels: (N, 1, H', W') mask of the active output pixels, for a branch that pools over
                them; None if all are.

        Returns:
            (N, C', H', W'), before the last norm.
        """
        *layers, (last_conv, _) = self.branch_layers()
        for conv, norm in layers:
            x = self.relu(norm(conv(x)))
        return last_conv(x)

    def identity(self, x: Tensor) -> Tensor:
        """The shortcut, always dense: (N, C, H, W) -> (N, C', H', W')."""
        return x if self.downsample is None else self.downsample(x)

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
        *_, (_, norm) = self.branch_layers()
        if pixels is None:
            return self.relu(self.drop(norm(out)) + self.identity(x))
        return masked_sum_relu(out, norm, self.drop(pixels), self.identity(x))

    def run_dense(
        self, x: Tensor, pixels: Tensor | None = None, shortcut: Tensor | None = None
    ) -> Tensor:
        """The block's output, computed again in the backward pass if ``with_cp``.

        Args:
            x: (N, C, H, W).
            pixels: (N, 1, H', W') mask of the active output pixels; None in a static block.
            shortcut: x once more, if the gradients of its two uses are to come apart.

        Returns:
            (N, C', H', W').
        """

        def compute(x: Tensor, shortcut: Tensor, pixels: Tensor | None) -> Tensor:
            return self.finish(self.body(x, pixels), shortcut, pixels)

        inputs = x, x if shortcut is None else shortcut, pixels
        if not (self.with_cp and x.requires_grad):
            return compute(*inputs)
        # The second forward must not move the running statistics a second time.
        contexts = nullcontext(), untracked(self)
        return checkpoint(compute, *inputs, use_reentrant=False, context_fn=lambda: contexts)

    def forward(self, x: Tensor, private: bool = False) -> Tensor:
        """Run the block; :attr:`trace` then says what it did.

        Args:
            x: (N, C, H, W).
            private: Whether ``x`` is another block's output that nobody else will read, so that an
                executor may write over it.

        Returns:
            (N, C', H', W').
        """
        if not self.is_dynamic:
            return self._executor(x)(self, x, private)[0]
        size = x.shape[-2], x.shape[-1]
        self.check_granularity(size)
        out, mask = self._executor(x)(self, x, private)
        self.remember_decision(mask, size)
        return out

    def remember_decision(self, mask: Tensor | None, input_size: tuple[int, int]) -> None:
        """Keep what the block decided for :attr:`trace`.

        Args:
            mask: (N, 1, ceil(H'/S), ceil(W'/S)) coarse mask.
            input_size: (H, W) of the block's input.
        """
        self.__dict__['_decision'] = mask, input_size

    @property
    def trace(self) -> BlockTrace | None:
        """What the block did in its last forward; None before the first one."""
        decision = self.__dict__.get('_decision')
        if decision is None:
            return None
        if isinstance(decision, tuple):  # made when first asked for: inference may never ask
            decision = self.__dict__['_decision'] = self._make_trace(*decision)
        return decision

    @trace.setter
    def trace(self, trace: BlockTrace | None) -> None:
        self.__dict__['_decision'] = trace

    def __getstate__(self) -> dict:
        """Copies and pickles leave the trace behind: it is of a forward, not of the block."""
        return {key: value for key, value in self.__dict__.items() if key != '_decision'}

    def __setstate__(self, state: dict) -> None:
        """Copies are blocks of their own."""
        super().__setstate__(state)
        if self.is_dynamic:
            self.number = number_block(self)

    def _executor(self, x: Tensor) -> Executor:
        """Training is dense; nothing made of the parameters before it may survive it."""
        if self.training or torch.is_grad_enabled() or (self.is_dynamic and self.masker.training):
            forget(self)
            return choose_executor('dense', self, x)
        return choose_executor(self.executor, self, x)

    def check_granularity(self, input_size: tuple[int, int]) -> None:
        """Refuse patches that are larger than the feature.

        Raises:
            ValueError: If S exceeds both sides of the output for an input of this (H, W).
        """
        if self.masker.window < max(input_size):
            return
        height, width = conv_size(input_size, self.stride_product)
        if self.masker.granularity > max(height, width):
            raise ValueError(
                f'granularity: block {self.name} has S={self.masker.granularity}, larger than its '
                f'{height}x{width} feature map; choose S <= {max(height, width)} for this stage, '
                'or a larger input'
            )

    def _make_trace(self, mask: Tensor, input_size: tuple[int, int]) -> BlockTrace:
        conv1_size = conv_size(input_size, self.conv1.stride[0])
        return BlockTrace(
            name=self.name,
            mask=mask.to(self.masker.conv.weight.dtype),
            granularity=self.masker.granularity,
            input_size=input_size,
            conv1_size=conv1_size,
            size=conv_size(conv1_size, self.conv2.stride[0]),
            kernel_size=self.conv2.kernel_size[0],
            stride=self.conv2.stride[0],
            dilation=self.conv2.dilation[0],
        )


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
