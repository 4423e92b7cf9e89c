"""Sparse execution in plain PyTorch: the readable reference of the native executors.

Features are channels-last rows, one per pixel, so that any set of pixels is an ``index_select`` and
any convolution of it one matrix product. A last row of zeros stands for all that lies outside of
the image.
"""

from functools import partial
from typing import cast

import torch
from torch import Tensor

from las_mm.executors.folding import FoldedBlock, FoldedGate, activate, fold_block, why_not_foldable
from las_mm.executors.memory import Memory
from las_mm.executors.rows import conv_rows, row_numbers, sites_of, to_rows
from las_mm.executors.torch_channels import NarrowBlock, narrow
from las_mm.layers import CHANNELS, DynamicBlock, Executor, Masks, Run
from las_mm.ops import conv_size, dilate_mask


class TorchExecutor(Executor[DynamicBlock]):
    """Computes the last convolutions where the mask is on, the first where those read it."""

    name = 'torch'

    def __init__(self) -> None:
        self.memory = Memory()

    def prepare(self, block: DynamicBlock, x: Tensor) -> Run | str:
        folded = self.memory.remember(_fold, block, x.dtype)
        return folded if isinstance(folded, str) else partial(_run, block, folded)

    def __reduce__(self) -> tuple:
        return type(self), ()


def _fold(block: DynamicBlock, dtype: torch.dtype) -> FoldedBlock | str:
    return why_not_foldable(block, dtype, channels=True) or fold_block(block, dtype)


def _run(
    block: DynamicBlock, folded: FoldedBlock, x: Tensor, private: bool = False
) -> tuple[Tensor, Masks]:
    """The output in channels-last memory, and the masks of a dynamic block."""
    second = folded.convs[1]
    hidden_size = conv_size(x.shape[-2:], folded.convs[0].stride)
    size = conv_size(hidden_size, second.stride)
    masks, channels = [], None
    active = x.new_ones(len(x), 1, *size)
    for masker in block.maskers:
        masks.append(masker(x))
        decision = masker.decision(masks[-1], size)
        if decision.axis == CHANNELS:
            channels = decision.channels.flatten(1)
        else:
            active = decision.pixels.float()
    needed = dilate_mask(active, hidden_size, second.kernel_size, second.stride, second.dilation)

    out = _start(folded, x, size, private)
    if channels is None:
        values = _branch(folded, x, sites_of(needed), sites_of(active))
    else:  # each image has weights of its own
        parts = zip(x.split(1), needed.split(1), active.split(1), channels, strict=True)
        values = torch.cat(
            [
                _branch(folded, image, sites_of(n), sites_of(a), narrow(folded, c))
                for image, n, a, c in parts
            ]
        )
    out.index_add_(0, row_numbers(sites_of(active), size), values)
    activate(out, folded.limits[-1])
    return out.view(len(x), *size, -1).permute(0, 3, 1, 2), tuple(masks)


def _start(folded: FoldedBlock, x: Tensor, size: tuple[int, int], private: bool) -> Tensor:
    """(N·H'·W', C') rows that the branch is added to: of the shortcut, or zeros without one."""
    if not folded.adds:
        return x.new_zeros(len(x) * size[0] * size[1], len(folded.convs[-1].bias))
    identity = folded.identity(x)
    rows = to_rows(identity, zero_row=False)
    return rows.clone() if identity is x and not private else rows


def _branch(
    folded: FoldedBlock, x: Tensor, needed: Tensor, active: Tensor, cut: NarrowBlock | None = None
) -> Tensor:
    """The residual branch at some pixels of the output.

    Args:
        folded: The block.
        x: (N, C, H, W) its input.
        needed: (Q, 3) image, row and column of the pixels of the first convolution's output.
        active: (P, 3) those of the block's output.
        cut: The block cut to the channels of the only image; None if all are active.

    Returns:
        (P, C'), before the sum.
    """
    first, *middle, last = folded.convs if cut is None else cut.convs
    adds = (None,) * 3 if cut is None else cut.adds
    size = x.shape[-2], x.shape[-1]
    values = conv_rows(first, to_rows(x, first.kernel_size > 1), needed, size)
    values = activate(values, folded.limits[0])
    size = conv_size(size, first.stride)
    hidden = _hidden(values, len(x) * size[0] * size[1], cut)
    rows = row_numbers(needed, size)
    if cut is None or cut.columns is None:
        hidden.index_copy_(0, rows, values)
    else:
        hidden[rows[:, None], cut.columns] = values
    if not middle:
        return conv_rows(last, hidden, active, size, adds[1])
    values = conv_rows(middle[0], hidden, active, size, adds[1])
    values = activate(values, folded.limits[1])
    if cut is not None and cut.chosen is not None:
        values = values[:, cut.chosen]
    added = adds[2]
    if folded.gate is not None:
        values, added = _excite(folded, values, active[:, 0], len(x), cut)
    bias = last.bias if added is None else last.bias + added[0]
    return torch.addmm(bias, values, last.weight.flatten(1).t())


def _hidden(values: Tensor, pixels: int, cut: NarrowBlock | None) -> Tensor:
    """Room for the first convolution's output, with a row of zeros behind it."""
    if cut is None or cut.hidden is None:
        return values.new_zeros(pixels + 1, values.shape[1])
    hidden = cut.hidden.repeat(pixels + 1, 1)
    hidden[-1] = 0
    return hidden


def _excite(
    folded: FoldedBlock, rows: Tensor, images: Tensor, count: int, cut: NarrowBlock | None
) -> tuple[Tensor, Tensor | None]:
    """Squeeze-and-excitation over the active pixels.

    Args:
        folded: The block.
        rows: (P, C) of the active pixels.
        images: (P,) image of each pixel.
        count: Number of images; those without active pixels have none to scale.
        cut: The block cut to the channels of the only image; None if all are active.

    Returns:
        The scaled rows (P, C), and (1, C') what the skipped channels add to the last convolution.
    """
    gate, last = cast(FoldedGate, folded.gate), folded.convs[-1]
    sums = rows.new_zeros(count, rows.shape[1], dtype=torch.float64)
    sums.index_add_(0, images, rows.double())
    pixels = torch.bincount(images, minlength=count).clamp(min=1)
    means = (sums / pixels.unsqueeze(1)).to(gate.squeeze.bias.dtype)
    if cut is None:
        return (rows * gate(means).index_select(0, images)).to(rows.dtype), None
    whole = means.new_zeros(1, last.weight.shape[1])
    whole[:, cut.active], whole[:, cut.skipped] = means, cut.constants.to(means)
    gates = gate(whole)
    carried = cut.constants * gates[0, cut.skipped]
    added = last.weight[:, cut.skipped, 0, 0] @ carried.to(rows.dtype)
    return (rows * gates[:, cut.active]).to(rows.dtype), added[None]
