"""Features as rows, one per pixel, and convolutions at any set of them.

A last row of zeros stands for all that lies outside of the image.
"""

import torch
from torch import Tensor

from las_mm.executors.folding import FoldedConv

# Elements gathered at a time: bounds the memory of the k² copies of each row.
GATHER_LIMIT = 1 << 22


def to_rows(x: Tensor, zero_row: bool) -> Tensor:
    """(N, C, H, W) -> (N·H·W [+ 1], C); shares memory with a channels-last ``x``."""
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])]) if zero_row else rows


def sites_of(pixels: Tensor) -> Tensor:
    """(N, 1, H, W) mask -> (P, 3): image, row and column of each pixel that is on."""
    return pixels.squeeze(1).nonzero()


def row_numbers(sites: Tensor, size: tuple[int, int]) -> Tensor:
    image, y, x = sites.unbind(1)
    return (image * size[0] + y) * size[1] + x


def conv_rows(
    conv: FoldedConv,
    rows: Tensor,
    sites: Tensor,
    size: tuple[int, int],
    skipped: Tensor | None = None,
) -> Tensor:
    """The convolution at some pixels of its output.

    Args:
        conv: The convolution.
        rows: (N·H·W [+ 1], C_in) its input; the row of zeros is only needed for kernels above 1×1.
        sites: (P, 3) image, row and column in the convolution's output.
        size: (H, W) of its input.
        skipped: (k², C_out) what channels that are not in ``rows`` add through each tap inside of
            the image; None for nothing.

    Returns:
        (P, C_out).
    """
    taps, groups = tap_rows(conv, sites, size, outside=len(rows) - 1), conv.groups
    # (groups, k² · C_in / groups, C_out / groups), in the order in which taps are gathered.
    weight = conv.weight.unflatten(0, (groups, -1)).permute(0, 3, 4, 2, 1).flatten(1, 3)
    bias = conv.bias.view(groups, 1, -1)
    out = rows.new_empty(len(sites), len(conv.bias))
    step = max(1, GATHER_LIMIT // max(1, taps.shape[1] * rows.shape[1]))
    for start in range(0, len(sites), step):
        part = taps[start : start + step]
        gathered = rows.index_select(0, part.flatten()).view(*part.shape, groups, -1)
        gathered = gathered.permute(2, 0, 1, 3).flatten(2)
        product = torch.baddbmm(bias, gathered, weight)
        product = product.transpose(0, 1).flatten(1)
        if skipped is not None:
            inside = (part < len(rows) - 1).to(rows.dtype) if conv.kernel_size > 1 else None
            product = product + (skipped if inside is None else inside @ skipped)
        out[start : start + step] = product
    return out


def tap_rows(conv: FoldedConv, sites: Tensor, size: tuple[int, int], outside: int) -> Tensor:
    """(P, k²): the input rows under the kernel at each site, ``outside`` for no pixel."""
    offsets = torch.arange(conv.kernel_size, device=sites.device) * conv.dilation - conv.padding
    image, y, x = sites.unsqueeze(-1).unbind(1)
    y, x = y * conv.stride + offsets, x * conv.stride + offsets
    inside_y, inside_x = (y >= 0) & (y < size[0]), (x >= 0) & (x < size[1])
    rows = ((image * size[0] + y) * size[1]).unsqueeze(-1) + x.unsqueeze(-2)
    inside = inside_y.unsqueeze(-1) & inside_x.unsqueeze(-2)
    return rows.masked_fill(~inside, outside).flatten(1)
