"""Geometry of a block on an input, and the lists of what is active."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from las_mm.ops.geometry import conv_size, grid_size

from .packing import PackedBlock

LARGEST_MAP = 2**31 - 1  # elements: the kernels count in 32 bits


@dataclass(frozen=True)
class Sizes:
    """Geometry of a block on an input.

    Attributes:
        batch: N.
        input: (H, W) of the block's input.
        hidden: (H, W) of the first convolution's output.
        output: (H', W') of the block's output.
        grid: Patches down and across.
    """

    batch: int
    input: tuple[int, int]
    hidden: tuple[int, int]
    output: tuple[int, int]
    grid: tuple[int, int]

    @classmethod
    def of(cls, packed: PackedBlock, x: Tensor) -> 'Sizes':
        """Those of a block on (N, C, H, W)."""
        height, width = x.shape[-2:]
        hidden = conv_size((height, width), packed.convs[0].stride)
        output = conv_size(hidden, packed.convs[1].stride)
        grid = grid_size(output, packed.granularity)
        return cls(len(x), (height, width), hidden, output, grid)

    @property
    def patches(self) -> int:
        """Patches of the whole batch."""
        return self.batch * self.grid[0] * self.grid[1]

    @property
    def hidden_pixels(self) -> int:
        """Rows of the hidden map of the whole batch."""
        return self.batch * self.hidden[0] * self.hidden[1]

    @property
    def output_pixels(self) -> int:
        """Rows of the output of the whole batch."""
        return self.batch * self.output[0] * self.output[1]


@dataclass(frozen=True)
class Lists:
    """What is active; nothing of it is known to the host.

    Attributes:
        mask: (N, 1, h, w) of the decisions.
        active: Rows of the active output pixels; as long as if all were.
        needed: Rows of the hidden map that the second convolution reads; None if all are computed.
        counts: (2,) lengths of ``active`` and ``needed``.
    """

    mask: Tensor
    active: Tensor
    needed: Tensor | None
    counts: Tensor

    @classmethod
    def empty(cls, packed: PackedBlock, sizes: Sizes, counts: Tensor, dense: bool) -> 'Lists':
        """Lists to be filled.

        Args:
            packed: The block.
            sizes: Its geometry.
            counts: (2,) zeros.
            dense: Whether the first convolution computes every pixel.
        """
        new = partial(torch.empty, device=counts.device, dtype=torch.int32)
        return cls(
            mask=new(sizes.batch, 1, *sizes.grid, dtype=packed.mask_dtype),
            active=new(sizes.output_pixels),
            needed=None if dense else new(sizes.hidden_pixels),
            counts=counts,
        )


def zero_counts(device: torch.device, blocks: int = 1) -> Tensor:
    """(blocks, 2) empty lists."""
    return torch.zeros(blocks, 2, device=device, dtype=torch.int32)


def half_list(pixels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A list with the first half of so many pixels, and its length (1,).

    Tiles are timed on it: what the image at hand activates, nothing perhaps, must not decide.
    """
    count = torch.full((1,), (pixels + 1) // 2, device=device, dtype=torch.int32)
    return torch.arange(pixels, device=device, dtype=torch.int32), count
