"""Tile sizes a kernel may be launched with."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tile:
    """Sizes of the part of the output that one program computes, and how it is compiled.

    Attributes:
        rows: BM, pixels.
        columns: BN, output channels.
        depth: BK, input channels of one loop step.
        warps: Warps of 32 threads of a program.
        stages: Loop steps whose loads are in flight at once.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    @property
    def constants(self) -> dict[str, int]:
        """The kernels' compile-time arguments."""
        return {'BM': self.rows, 'BN': self.columns, 'BK': self.depth}


# In the order in which they are tried; without tuning the first one is taken. The first fills a
# multiprocessor of a large map, the last ones spread a small map over many of them. All of them
# compile without spilling for every kernel, see tools/check_triton_builds.py.
HALF = (
    Tile(128, 128, 64, 8, 3),
    Tile(128, 64, 64, 4, 4),
    Tile(64, 128, 64, 4, 4),
    Tile(64, 64, 64, 4, 4),
    Tile(32, 64, 64, 4, 4),
    Tile(16, 32, 64, 2, 5),
)
SINGLE = (
    Tile(64, 64, 32, 4, 3),
    Tile(128, 64, 32, 8, 3),
    Tile(64, 32, 32, 4, 4),
    Tile(32, 64, 32, 4, 3),
    Tile(16, 32, 32, 2, 4),
)
FEWEST_COLUMNS = 16  # of a tensor-core product


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least ``number``."""
    return 1 << (number - 1).bit_length()


def conv_tiles(dtype: torch.dtype, out_channels: int, depth: int, rows: int = 1) -> tuple[Tile, ...]:
    """Tiles for a convolution.

    Args:
        dtype: Of the features.
        out_channels: Of one group.
        depth: Padded input channels of one group.
        rows: The least number of rows of a tile, a power of two.
    """
    widest = max(FEWEST_COLUMNS, power_of_two(out_channels))
    return tuple(dict.fromkeys(_clipped(dtype, widest, depth, rows)))


def _clipped(dtype: torch.dtype, widest: int, depth: int, rows: int) -> Iterator[Tile]:
    for tile in SINGLE if dtype.itemsize == 4 else HALF:
        step = tile.depth
        while depth % step:
            step //= 2
        yield Tile(max(tile.rows, rows), min(tile.columns, widest), step, tile.warps, tile.stages)
