"""What makes a residual block dynamic, whichever framework the block comes from (Sec. 3.2)."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from las_mm.ops import conv_size
from las_mm.ops.fork import fork
from las_mm.ops.masked_sum import masked_sum_relu

from .branch import Branch
from .channel_masker import ChannelMasker
from .executed_block import ExecutedBlock
from .executor import Masks
from .maskers import BranchMasker, Masker, PatchMasker, SpatialMasker
from .numbering import number_block
from .squeeze_masker import make_masker
from .untracked import untracked

# Attributes, and so parts of state-dict names, of a block's maskers.
MASKERS = ('masker', 'branch_masker', 'channel_masker')


class DynamicBlock(ExecutedBlock):
    """Mixin that turns a residual block into a dynamic one.

    It expects of the block what torchvision's, mmdet's and mmpretrain's have in common:
    ``conv1, conv2[, conv3]``, ``norm1, norm2[, norm3]``, ``relu``, ``downsample`` and ``with_cp``;
    a block built otherwise overrides :attr:`branch`. Until :meth:`make_dynamic` is called the block
    stays static. The output is

        relu(M ⊙ branch(x) + identity(x)),

    with M the masker's decision upsampled by S: skipped pixels carry relu(identity). A channel
    masker multiplies what goes from one convolution to the next, see
    :class:`~las_mm.layers.Branch`.
    """

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d
    relu: nn.Module
    downsample: nn.Module | None
    masker: PatchMasker
    branch_masker: BranchMasker
    channel_masker: ChannelMasker
    zeroes_channels: bool = False  # see Branch.zeroed
    always_runs: bool = False  # whether nothing can stand in the place of what it computes
    with_cp: bool = False

    if TYPE_CHECKING:  # at run time these would hide the framework's

        @property
        def norm1(self) -> nn.Module: ...

        @property
        def norm2(self) -> nn.Module: ...

        @property
        def norm3(self) -> nn.Module: ...

    def make_dynamic(
        self,
        granularity: int | str | None,
        name: str = '',
        stage: int = 0,
        channel_groups: int | None = None,
        channel_masker: dict | None = None,
        **masker: Any,
    ) -> None:
        """Give the block its maskers.

        Args:
            granularity: S, edge of a patch in pixels of the block's output; ``'all'`` to compute
                the whole block or nothing of it; None to compute every pixel.
            name: The block's name in its backbone, used in traces and messages.
            stage: Its stage in the backbone, from 0.
            channel_groups: G, channels of a group of those between the convolutions; None to
                compute every channel.
            channel_masker: Further arguments of :class:`~las_mm.layers.ChannelMasker`.
            masker: ``kind`` and further arguments of :func:`~las_mm.layers.make_masker`.

        Raises:
            ValueError: If G does not divide the channels between the convolutions, or a masker has
                no such option.
        """
        self.name, self.stage = name, stage
        branch = self.branch
        channels = branch.steps[0].op.in_channels
        if granularity is not None:
            made = make_masker(granularity, channels, branch.stride, **masker)
            setattr(self, 'branch_masker' if isinstance(made, BranchMasker) else 'masker', made)
        if channel_groups is not None:
            inner, options = branch.inner_channels, channel_masker or {}
            if inner % channel_groups:
                raise ValueError(
                    f'channel_groups: block {name} got {channel_groups} channels per group; it '
                    f'must divide the {inner} channels between its convolutions'
                )
            self.channel_masker = ChannelMasker(channels, inner, channel_groups, **options)
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
    def is_dynamic(self) -> bool:
        """Whether the block has a masker."""
        return any(name in self._modules for name in MASKERS)

    @property
    def spatial_masker(self) -> SpatialMasker | None:
        """The masker that decides on the output's pixels, patch by patch or all at once."""
        return next((m for m in self.maskers if isinstance(m, SpatialMasker)), None)

    @property
    def branch(self) -> Branch:
        """What the block computes; for a framework's basic block or bottleneck."""
        layers = [(self.conv1, self.norm1), (self.conv2, self.norm2)]
        if hasattr(self, 'conv3'):
            layers.append((self.conv3, self.norm3))
        return Branch.residual(
            layers, self.relu, self.downsample, self.gate, zeroed=self.zeroes_channels
        )

    @property
    def gate(self) -> nn.Module | None:
        """Squeeze-and-excitation before the last convolution; None where there is none."""
        return None

    @property
    def stride_product(self) -> int:
        """Stride of the whole block."""
        return self.branch.stride

    def body(
        self, x: Tensor, pixels: Tensor | None = None, channels: Tensor | None = None
    ) -> Tensor:
        """The residual branch up to its last convolution, dense.

        Args:
            x: (N, C, H, W).
            pixels: (N, 1, H', W') mask of the active output pixels, for a gate that pools over
                them; None if all are.
            channels: (N, C, 1, 1) mask of the active inner channels; None if all are.

        Returns:
            (N, C', H', W'), before the last norm where that follows the convolution.
        """
        branch = self.branch
        *steps, last = branch.steps
        for step in steps:
            x = step.run(x, channels, branch.zeroed)
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
        self,
        x: Tensor,
        pixels: Tensor | None = None,
        shortcut: Tensor | None = None,
        channels: Tensor | None = None,
    ) -> Tensor:
        """The block's dense output, computed again in the backward pass if ``with_cp``.

        Args:
            x: (N, C, H, W).
            pixels: (N, 1, H', W') mask of the active output pixels; None if all are.
            shortcut: x once more, if the gradients of its two uses are to come apart.
            channels: (N, C, 1, 1) mask of the active inner channels; None if all are.

        Returns:
            (N, C', H', W').
        """

        def run(
            x: Tensor, shortcut: Tensor, pixels: Tensor | None, channels: Tensor | None
        ) -> Tensor:
            return self.finish(self.body(x, pixels, channels), shortcut, pixels)

        inputs = x, x if shortcut is None else shortcut, pixels, channels
        if not (self.with_cp and x.requires_grad):
            return run(*inputs)
        # The second forward must not move the running statistics a second time.
        contexts = nullcontext(), untracked(self)
        return checkpoint(run, *inputs, use_reentrant=False, context_fn=lambda: contexts)

    def run_dense(self, x: Tensor) -> tuple[Tensor, Masks]:
        """The reference, and the only way to train: all is computed, then multiplied by the masks.

        Batch norms see dense statistics, but for skipped channels, which are zero before them.

        Args:
            x: (N, C, H, W).

        Returns:
            The output (N, C', H', W') and the masks of :attr:`maskers`.
        """
        spatial, masks = self.spatial_masker, []
        window = spatial.window if spatial is not None and spatial.training else None
        inner, shortcut, pooled = (x, x, None) if window is None else fork(x, window)
        pixels = channels = None
        size = conv_size(x.shape[-2:], self.stride_product)
        if spatial is not None:
            masks.append(spatial(x, pooled))
            pixels = spatial.decision(masks[-1], size).pixels
        if 'channel_masker' in self._modules:
            masks.append(self.channel_masker(inner))
            channels = self.channel_masker.decision(masks[-1], size).channels
        return self.compute(inner, pixels, shortcut, channels), tuple(masks)

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
