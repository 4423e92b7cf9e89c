"""Folding of a residual block's batch norms into its convolutions.

Sec. 3.4: "general optimization methods like fusing activation functions and batch normalization
layers into convolution layers". Every sparse executor starts from here.
"""

from dataclasses import dataclass
from math import inf
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from las_mm.layers import (
    Branch,
    BranchMasker,
    ChannelMasker,
    DynamicBlock,
    Masker,
    PatchMasker,
    SqueezeExcitation,
    SqueezeMasker,
    convs_of,
)
from las_mm.layers.padded_shortcut import PaddedShortcut
from las_mm.ops.plain import NORMS, inherits, is_watched, runs_as_shipped, why_not_plain


@dataclass(frozen=True)
class FoldedConv:
    """A "same"-padded convolution that has swallowed its batch norm.

    Attributes:
        weight: (C_out, C_in / groups, k, k).
        bias: (C_out,).
        stride: Stride, the same in both directions.
        dilation: Dilation, the same in both directions.
        groups: Groups.
        skipped: (C_out,) what the norm makes of a zero, before any activation; None if not asked.
    """

    weight: Tensor
    bias: Tensor
    stride: int
    dilation: int
    groups: int
    skipped: Tensor | None = None

    @property
    def kernel_size(self) -> int:
        """Edge k of the kernel."""
        return self.weight.shape[-1]

    @property
    def padding(self) -> int:
        """Zeros on each side of the input."""
        return self.dilation * (self.kernel_size // 2)

    def __call__(self, x: Tensor) -> Tensor:
        """Dense convolution, (N, C_in, H, W) -> (N, C_out, H', W')."""
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return nn.functional.conv2d(x, self.weight, self.bias, *geometry)


@dataclass(frozen=True)
class FoldedGate:
    """The two 1×1 convolutions of squeeze-and-excitation, in single precision or better.

    Attributes:
        squeeze: Followed by a ReLU.
        excite: Followed by a sigmoid.
    """

    squeeze: FoldedConv
    excite: FoldedConv

    def __call__(self, means: Tensor) -> Tensor:
        """What to scale the channels by, given their means: (N, C) -> (N, C), in (0, 1)."""
        linear = nn.functional.linear
        hidden = linear(means, self.squeeze.weight.flatten(1), self.squeeze.bias).relu_()
        return linear(hidden, self.excite.weight.flatten(1), self.excite.bias).sigmoid_()


@dataclass(frozen=True)
class FoldedBlock:
    """A residual block as plain convolutions with a ReLU, a ReLU6 or nothing after each one.

    Attributes:
        convs: The residual branch.
        limits: After each convolution, and instead of the last one after the addition: where the
            activation ends, infinity for a ReLU and 6 for a ReLU6; None for no activation.
        gate: Squeeze-and-excitation before the last convolution, None where there is none.
        shortcut: Convolution of the shortcut, None where the shortcut is the identity.
        pool: What runs before ``shortcut``, or alone: pooling (``avg_down`` in OpenMMLab) or a
            shortcut without parameters; None where there is none.
        zeroed: Whether skipped channels are zero, see :class:`~las_mm.layers.Branch`.
        adds: Whether the shortcut is added; if not, the branch is the output, at every pixel.
    """

    convs: tuple[FoldedConv, ...]
    limits: tuple[float | None, ...]
    gate: FoldedGate | None
    shortcut: FoldedConv | None
    pool: nn.Module | None
    zeroed: bool = False
    adds: bool = True

    def identity(self, x: Tensor) -> Tensor:
        """The shortcut, dense: (N, C, H, W) -> (N, C', H', W'); ``x`` itself if it has none."""
        x = x if self.pool is None else self.pool(x)
        return x if self.shortcut is None else self.shortcut(x)


def activate(x: Tensor, limit: float | None) -> Tensor:
    """An activation of :class:`FoldedBlock`, in place."""
    if limit is None:
        return x
    return x.relu_() if limit == inf else x.clamp_(0, limit)


def fold_conv(
    conv: nn.Conv2d,
    norm: nn.Module,
    dtype: torch.dtype,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> FoldedConv:
    """Fold a batch norm in eval mode (or an ``nn.Identity``) into the convolution before it.

    The scale is computed in double precision, the product in single: one rounding a weight.
    """
    weight = conv.weight.detach().float()
    nothing = torch.zeros(weight.shape[0], device=weight.device, dtype=torch.float64)
    bias = nothing if conv.bias is None else nothing + conv.bias.detach()
    scale, bias = _normalise(norm, bias)
    if scale is not None:
        weight = weight * scale.float().view(-1, 1, 1, 1)
    weight = weight.to(dtype, memory_format=memory_format)
    skipped = _normalise(norm, nothing)[1].to(dtype)
    geometry = conv.stride[0], conv.dilation[0], conv.groups
    return FoldedConv(weight, bias.to(dtype), *geometry, skipped)


def _normalise(norm: nn.Module, x: Tensor) -> tuple[Tensor | None, Tensor]:
    """The scale of a batch norm, None of an identity, and what it makes of x, in double (C,)."""
    if not isinstance(norm, _BatchNorm):
        return None, x
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = (variance.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach()
    x = (x - mean) * scale
    return scale, x if norm.bias is None else x + norm.bias.detach()


def fold_block(block: DynamicBlock, dtype: torch.dtype) -> FoldedBlock:
    """Fold a block for which :func:`why_not_foldable` is None.

    Args:
        block: The block.
        dtype: Of the folded weights: that of the features the block will run on.
    """
    branch = block.branch
    convs = tuple(fold_conv(step.op, step.norm, dtype) for step in branch.steps)
    gate = None
    if branch.gate is not None:
        # A rounding of the gate would be one of all pixels.
        exact = torch.promote_types(dtype, torch.float32)
        pair = convs_of(branch.gate)
        gate = FoldedGate(*(fold_conv(conv, nn.Identity(), exact) for conv in pair))
    limits = tuple(map(limit_of, activations(branch)))
    adds = branch.join == 'add'
    if branch.shortcut is None or type(branch.shortcut) is PaddedShortcut:
        return FoldedBlock(convs, limits, gate, None, branch.shortcut, branch.zeroed, adds)
    *pool, conv, norm = branch.shortcut.children()
    shortcut = fold_conv(cast(nn.Conv2d, conv), norm, dtype)
    return FoldedBlock(convs, limits, gate, shortcut, pool[0] if pool else None, branch.zeroed)


def activations(branch: Branch) -> list[nn.Module | None]:
    """What follows each convolution and, in the place of the last one's, the addition."""
    return [*(step.act for step in branch.steps[:-1]), branch.act_after]


def limit_of(act: nn.Module | None) -> float | None:
    """Where an activation ends, as :class:`FoldedBlock` has it."""
    if act is None:
        return None
    return float(act.max_val) if isinstance(act, nn.ReLU6) else inf


# What a block's forward is made of; a subclass with one of its own may compute something else.
FORWARD = ('forward', 'run_dense', 'compute', 'body', 'identity', 'drop', 'finish')
MASKERS = (PatchMasker, BranchMasker, SqueezeMasker)


def is_shipped(masker: Masker) -> bool:
    """Whether a masker decides as its weights say, so that an executor may do it."""
    layers = (why_not_plain(part, nn.Conv2d, nn.Linear) for part in masker.children())
    return type(masker) in MASKERS and not any(layers)


def why_not_foldable(block: DynamicBlock, dtype: torch.dtype, channels: bool = False) -> str | None:
    """The reason why a block cannot be folded, None if it can.

    Args:
        block: The block.
        dtype: Of its features.
        channels: Whether the executor can skip channels.
    """
    if dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        return f'its features are {dtype}'
    if not runs_as_shipped(block, *FORWARD):
        return f'{type(block).__name__} has a forward of its own'
    if any(is_watched(part) for part in block.modules() if part is not block):
        return 'a hook or another forward is on one of its layers'
    for part in block.modules():
        if part._modules and not runs_as_shipped(part, 'forward'):
            return f'a {type(part).__name__} in it has a forward of its own'
    for masker in block.maskers:
        if isinstance(masker, ChannelMasker):
            if not channels:
                return 'it skips channels'
        elif not is_shipped(masker):
            return f'its {type(masker).__name__} may decide otherwise than by its weights'
    branch = block.branch
    return _why_not_steps(branch) or _why_not_gate(branch) or _why_not_shortcut(branch.shortcut)


def _why_not_steps(branch: Branch) -> str | None:
    if branch.join == 'concat' or any(step.norm_first for step in branch.steps):
        return 'its branch is not one of convolutions, norms and a sum'
    if branch.steps[-1].act is not None:
        return 'an activation stands before its sum'
    reasons = [why_not_act(act) for act in activations(branch) if act is not None]
    reasons += [why_not_foldable_layer(step.op, step.norm) for step in branch.steps]
    return next((reason for reason in reasons if reason), None)


def why_not_act(act: nn.Module) -> str | None:
    """The reason why an activation is not one that the executors have, None if it is."""
    if reason := why_not_plain(act, nn.ReLU, nn.ReLU6):
        return reason
    least = act.min_val if isinstance(act, nn.ReLU6) else 0
    return f'{act} begins at {least}' if least else None


def _why_not_gate(branch: Branch) -> str | None:
    if branch.gate is None:
        return None
    if type(branch.gate) is not SqueezeExcitation:
        return f'a {type(branch.gate).__name__} is more than its convolutions'
    if branch.gate.pools_all:
        return 'its squeeze-and-excitation is over skipped pixels, too'
    if len(branch.steps) < 3:
        return 'its squeeze-and-excitation is not in a bottleneck'
    reasons = (why_not_foldable_layer(c, nn.Identity()) for c in convs_of(branch.gate))
    return next((reason for reason in reasons if reason), None)


def _why_not_shortcut(shortcut: nn.Module | None) -> str | None:
    if shortcut is None or type(shortcut) is PaddedShortcut and not is_watched(shortcut):
        return None
    layers = list(shortcut.children())
    if not inherits(shortcut, nn.Sequential) or len(layers) not in (2, 3):
        return 'its shortcut is not [pooling,] convolution, norm'
    return why_not_foldable_layer(*layers[-2:])


def why_not_foldable_layer(conv: nn.Module, norm: nn.Module) -> str | None:
    """The reason why a convolution and the norm after it cannot be folded, None if they can."""
    if reason := why_not_plain(conv, nn.Conv2d) or why_not_plain(norm, *NORMS):
        return reason
    conv = cast(nn.Conv2d, conv)
    if conv.padding_mode != 'zeros':
        return f'{conv} does not pad with zeros'
    same = tuple(d * (k // 2) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    square = all(len(set(pair)) == 1 for pair in (conv.kernel_size, conv.stride, conv.dilation))
    if not square or conv.kernel_size[0] % 2 == 0 or tuple(conv.padding) != same:
        return f'{conv} is not square, odd and "same"-padded'
    if isinstance(norm, nn.Identity):
        return None
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
        return f'its norm is {type(norm).__name__}, not a batch norm with running statistics'
    return 'a batch norm is in training mode' if norm.training else None
