"""A folded block's parameters in the layout that the kernels read."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_mm.executors.folding import FoldedConv, FoldedGate, fold_block
from las_mm.layers import DynamicBlock

# Groups narrower than this are merged: tensor cores multiply 16 channels at a time or more.
NARROWEST_GROUP = 32
# Patches of a block that is computed whole or not at all, which then all agree.
WHOLE_PATCH = 8


@dataclass(frozen=True)
class PackedConv:
    """A convolution as the kernels see it.

    Attributes:
        weight: (groups · group_out, k² · depth); the taps of an output channel lie one after the
            other, and so do the input channels of a tap, padded with zeros from group_in to depth.
        bias: (groups · group_out,) in float32.
        groups: Groups after merging narrow ones into block-diagonal wider ones.
        group_in: Input channels of a group.
        group_out: Output channels of a group.
        kernel_size, stride, dilation: As of the convolution.
        limit: Where the activation after it ends, or after the last convolution that after the
            sum; see :class:`~las_mm.executors.folding.FoldedBlock`.
        depthwise: Whether it goes channel by channel: its weight is then (k², C), in one group.
    """

    weight: Tensor
    bias: Tensor
    groups: int
    group_in: int
    group_out: int
    kernel_size: int
    stride: int
    dilation: int
    limit: float | None = None
    depthwise: bool = False

    @property
    def depth(self) -> int:
        """Input channels of a group, padded."""
        return padded_depth(self.group_in)

    @property
    def in_channels(self) -> int:
        """Input channels."""
        return self.groups * self.group_in

    @property
    def out_channels(self) -> int:
        """Output channels."""
        return self.groups * self.group_out

    @property
    def constants(self) -> dict[str, int]:
        """The kernels' compile-time arguments."""
        return {
            'CHANNELS': self.in_channels,
            'GROUPS': self.groups,
            'GROUP_IN': self.group_in,
            'GROUP_OUT': self.group_out,
            'DEPTH': self.depth,
            'KERNEL': self.kernel_size,
            'STRIDE': self.stride,
            'DILATION': self.dilation,
        }


@dataclass(frozen=True)
class PackedBlock:
    """A residual block for the kernels.

    Attributes:
        convs: Two or three convolutions of the residual branch.
        gate: Squeeze-and-excitation before the third one, None where there is none.
        shortcut: Convolution of the shortcut, None where it is the identity.
        pool: Pooling before ``shortcut``, None where there is none.
        granularity: S.
        masker_weight: (1, depth) difference of the masker's two weight rows, double, zero-padded.
        masker_bias: (1,) difference of its two biases, double.
        mask_dtype: Of the mask that the dense executor returns.
    """

    convs: tuple[PackedConv, ...]
    gate: FoldedGate | None
    shortcut: PackedConv | None
    pool: nn.Module | None
    granularity: int
    masker_weight: Tensor
    masker_bias: Tensor
    mask_dtype: torch.dtype

    @property
    def stride(self) -> int:
        """Stride of the whole block."""
        return self.convs[0].stride * self.convs[1].stride

    @property
    def window(self) -> int:
        """Edge of a patch in the block's input."""
        return self.granularity * self.stride


def padded_depth(channels: int) -> int:
    """Channels rounded up to what loop steps of 16, 32 or 64 divide."""
    step = 16 if channels <= 16 else 32 if channels <= 32 else 64
    return -(-channels // step) * step


def pack_conv(
    conv: FoldedConv, dtype: torch.dtype, limit: float | None = None, depthwise: bool = False
) -> PackedConv:
    """Lay out one convolution; the bias stays in float32. The others as in :class:`PackedConv`."""
    if depthwise:
        return _pack_depthwise(conv, dtype, limit)
    weight, groups = _merge_groups(conv)
    weight = weight.permute(0, 2, 3, 1)  # (C_out, k, k, group_in)
    group_in = weight.shape[-1]
    weight = F.pad(weight, (0, padded_depth(group_in) - group_in)).flatten(1)
    return PackedConv(
        weight=weight.to(dtype).contiguous(),
        bias=conv.bias.float().contiguous(),
        groups=groups,
        group_in=group_in,
        group_out=len(conv.bias) // groups,
        kernel_size=conv.kernel_size,
        stride=conv.stride,
        dilation=conv.dilation,
        limit=limit,
    )


def _pack_depthwise(conv: FoldedConv, dtype: torch.dtype, limit: float | None) -> PackedConv:
    channels = len(conv.bias)
    weight = conv.weight.flatten(1).t().to(dtype).contiguous()
    shape = conv.kernel_size, conv.stride, conv.dilation
    return PackedConv(weight, conv.bias.float(), 1, channels, channels, *shape, limit, True)


def patch_of(block: DynamicBlock) -> int:
    """Edge of the patches that the kernels see, in pixels of a dynamic block's output."""
    masker = block.spatial_masker
    return WHOLE_PATCH if masker is None else masker.granularity or WHOLE_PATCH


def pack_block(block: DynamicBlock, dtype: torch.dtype) -> PackedBlock:
    """Fold and lay out a dynamic block."""
    folded = fold_block(block, torch.float32)
    masker = block.spatial_masker
    if masker is None:  # it skips channels alone
        weight = torch.zeros(block.conv1.in_channels, device=folded.convs[0].bias.device).double()
        bias = weight.new_zeros(())
    else:
        weight, bias = masker.difference()
    return PackedBlock(
        convs=tuple(
            pack_conv(conv, dtype, limit, conv is not folded.convs[-1] and is_depthwise(conv))
            for conv, limit in zip(folded.convs, folded.limits, strict=True)
        ),
        gate=folded.gate,
        shortcut=None if folded.shortcut is None else pack_conv(folded.shortcut, dtype),
        pool=folded.pool,
        granularity=patch_of(block),
        masker_weight=F.pad(weight, (0, padded_depth(len(weight)) - len(weight)))[None],
        masker_bias=bias.reshape(1),
        mask_dtype=dtype if masker is None else masker.dtype,
    )


def is_depthwise(conv: FoldedConv) -> bool:
    """Whether a convolution goes channel by channel."""
    return 1 < conv.groups == len(conv.bias) and conv.weight.shape[1] == 1


def _merge_groups(conv: FoldedConv) -> tuple[Tensor, int]:
    """Block-diagonal weights (C_out, wider group_in, k, k) of as few groups as are wide enough."""
    out_channels, group_in = conv.weight.shape[:2]
    sizes = (size for size in range(1, conv.groups + 1) if conv.groups % size == 0)
    merged = next((size for size in sizes if size * group_in >= NARROWEST_GROUP), conv.groups)
    wide = conv.weight.new_zeros(out_channels, merged, group_in, *conv.weight.shape[2:])
    member = torch.arange(out_channels) // (out_channels // conv.groups) % merged
    wide[torch.arange(out_channels), member] = conv.weight
    return wide.flatten(1, 2), conv.groups // merged
