"""Quantized blocks as plain PyTorch computes them, with the same integers."""

import torch
from torch import Tensor

from las_mm.executors.cpu.int8 import ByteBlock, ByteConv


def sums_of(conv: ByteConv, x: Tensor) -> Tensor:
    """Steps (N, C, H, W) -> the convolution's sums, scaled; nothing but the scale is rounded."""
    folded = conv.folded
    geometry = folded.stride, folded.padding, folded.dilation, folded.groups
    out = torch.nn.functional.conv2d(
        x.double(), conv.weight.double(), conv.bias.double(), *geometry
    )
    return out.float() * conv.scale.view(1, -1, 1, 1)


def saturate(x: Tensor) -> Tensor:
    """What fits into a byte."""
    return x.clamp(0, 255)


def run_reference(block: ByteBlock, x: Tensor, mask: Tensor, identity: Tensor | None) -> Tensor:
    """Steps in, steps out.

    Args:
        block: The quantized block.
        x: (N, C, H, W) steps.
        mask: (N, 1, H', W') of the active output pixels.
        identity: The shortcut in steps of the output where it is given.
    """
    hidden = x
    for conv in block.convs[:-1]:
        hidden = saturate(sums_of(conv, hidden).round())
    branch = sums_of(block.convs[-1], hidden).round()
    if block.shortcut is None:
        skipped = added = x.float() if identity is None else identity.float()
    else:
        own = sums_of(block.shortcut, x)
        factor = torch.tensor(block.shortcut_step).reciprocal()
        bytes_ = saturate((own * factor).round() + 128)
        added = ((bytes_ - 128) * torch.tensor(block.shortcut_step)).round()
        skipped = saturate(own.round())
    return torch.where(mask > 0, saturate(branch + added), skipped).to(torch.uint8)
