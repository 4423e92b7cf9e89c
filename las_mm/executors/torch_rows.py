"""Sparse execution in plain PyTorch: the readable reference of the native executors.

Features are channels-last rows, one per pixel, so that any set of pixels is an ``index_select`` and
any convolution of it one matrix product. A last row of zeros stands for all that lies outside of
the image.
"""

from functools import partial

import torch
from torch import Tensor

from las_mm.executors.folding import (
    FoldedBlock,
    FoldedConv,
    FoldedGate,
    activate,
    fold_block,
    why_not_foldable,
)
from las_mm.executors.memory import Memory
from las_mm.layers import DynamicBlock, Executor, Masks, Run
from las_mm.ops import conv_size, dilate_mask

# Elements gathered at a time: bounds the memory of the k² copies of each row.
GATHER_LIMIT = 1 << 22


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
    return why_not_foldable(block, dtype) or fold_block(block, dtype)


def _run(
    block: DynamicBlock, folded: FoldedBlock, x: Tensor, private: bool = False
) -> tuple[Tensor, Masks]:
    """The output in channels-last memory, and the mask of a dynamic block."""
    first, *middle, last = folded.convs
    height, width = x.shape[-2:]
    hidden_size = conv_size((height, width), first.stride)
    size = conv_size(hidden_size, folded.convs[1].stride)
    masker = block.spatial_masker
    masks: Masks = ()
    active = x.new_ones(len(x), 1, *size)
    if masker is not None:
        masks = (masker(x),)
        active = masker.decision(masks[0], size).pixels.float()
    second = folded.convs[1]
    needed = dilate_mask(active, hidden_size, second.kernel_size, second.stride, second.dilation)

    hidden = x.new_zeros(len(x) * hidden_size[0] * hidden_size[1] + 1, len(first.bias))
    sites = _sites(needed)
    values = _conv_rows(first, _rows(x, first.kernel_size > 1), sites, (height, width))
    hidden.index_copy_(0, _row_numbers(sites, hidden_size), activate(values, folded.limits[0]))

    sites = _sites(active)
    values = hidden
    if middle:
        values = _conv_rows(second, hidden, sites, hidden_size)
        values = activate(values, folded.limits[1])
        if folded.gate is not None:
            values = _excite(folded.gate, values, sites[:, 0], len(x))
        values = torch.addmm(last.bias, values, last.weight.flatten(1).t())
    else:
        values = _conv_rows(last, hidden, sites, hidden_size)
    identity = folded.identity(x)
    out = _rows(identity, zero_row=False)
    out = out.clone() if identity is x and not private else out
    out.index_add_(0, _row_numbers(sites, size), values)
    activate(out, folded.limits[-1])
    return out.view(len(x), *size, -1).permute(0, 3, 1, 2), masks


def _rows(x: Tensor, zero_row: bool) -> Tensor:
    """(N, C, H, W) -> (N·H·W [+ 1], C); shares memory with a channels-last ``x``."""
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])]) if zero_row else rows


def _sites(pixels: Tensor) -> Tensor:
    """(N, 1, H, W) mask -> (P, 3): image, row and column of each pixel that is on."""
    return pixels.squeeze(1).nonzero()


def _row_numbers(sites: Tensor, size: tuple[int, int]) -> Tensor:
    image, y, x = sites.unbind(1)
    return (image * size[0] + y) * size[1] + x


def _conv_rows(conv: FoldedConv, rows: Tensor, sites: Tensor, size: tuple[int, int]) -> Tensor:
    """The convolution at some pixels of its output.

    Args:
        conv: The convolution.
        rows: (N·H·W [+ 1], C_in) its input; the row of zeros is only needed for kernels above 1×1.
        sites: (P, 3) image, row and column in the convolution's output.
        size: (H, W) of its input.

    Returns:
        (P, C_out).
    """
    taps, groups = _tap_rows(conv, sites, size, outside=len(rows) - 1), conv.groups
    # (groups, k² · C_in / groups, C_out / groups), in the order in which taps are gathered.
    weight = conv.weight.unflatten(0, (groups, -1)).permute(0, 3, 4, 2, 1).flatten(1, 3)
    bias = conv.bias.view(groups, 1, -1)
    out = rows.new_empty(len(sites), len(conv.bias))
    step = max(1, GATHER_LIMIT // (taps.shape[1] * rows.shape[1]))
    for start in range(0, len(sites), step):
        part = taps[start : start + step]
        gathered = rows.index_select(0, part.flatten()).view(*part.shape, groups, -1)
        gathered = gathered.permute(2, 0, 1, 3).flatten(2)
        product = torch.baddbmm(bias, gathered, weight)
        out[start : start + step] = product.transpose(0, 1).flatten(1)
    return out


def _excite(gate: FoldedGate, rows: Tensor, images: Tensor, count: int) -> Tensor:
    """Squeeze-and-excitation over the active pixels.

    Args:
        gate: The gate.
        rows: (P, C) of the active pixels.
        images: (P,) image of each pixel.
        count: Number of images; those without active pixels have none to scale.

    Returns:
        (P, C).
    """
    sums = rows.new_zeros(count, rows.shape[1], dtype=torch.float64)
    sums.index_add_(0, images, rows.double())
    pixels = torch.bincount(images, minlength=count).clamp(min=1)
    gates = gate((sums / pixels.unsqueeze(1)).to(gate.squeeze.bias.dtype))
    return (rows * gates.index_select(0, images)).to(rows.dtype)


def _tap_rows(conv: FoldedConv, sites: Tensor, size: tuple[int, int], outside: int) -> Tensor:
    """(P, k²): the input rows under the kernel at each site, ``outside`` for no pixel."""
    offsets = torch.arange(conv.kernel_size, device=sites.device) * conv.dilation - conv.padding
    image, y, x = sites.unsqueeze(-1).unbind(1)
    y, x = y * conv.stride + offsets, x * conv.stride + offsets
    inside_y, inside_x = (y >= 0) & (y < size[0]), (x >= 0) & (x < size[1])
    rows = ((image * size[0] + y) * size[1]).unsqueeze(-1) + x.unsqueeze(-2)
    inside = inside_y.unsqueeze(-1) & inside_x.unsqueeze(-2)
    return rows.masked_fill(~inside, outside).flatten(1)
