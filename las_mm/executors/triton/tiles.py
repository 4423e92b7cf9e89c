"""Tile sizes a kernel may be launched with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
# compile without spilling for every kernel, see tools/benchmarks/check_triton_builds.py.
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
    Tile(64, 32, 32, 4, 3),
    Tile(32, 64, 32, 4, 3),
    Tile(16, 32, 32, 2, 4),
)
HALF_MASKER = (
    Tile(64, 128, 64, 8, 4),
    Tile(128, 64, 32, 8, 4),
    Tile(64, 64, 64, 8, 4),
    Tile(32, 64, 64, 4, 4),
    Tile(16, 32, 64, 4, 4),
)
SINGLE_MASKER = (
    Tile(64, 64, 32, 8, 4),
    Tile(128, 32, 32, 8, 3),
    Tile(64, 32, 32, 4, 4),
    Tile(32, 32, 32, 4, 4),
    Tile(16, 32, 32, 4, 4),
)
HALF_INCREMENTAL = (
    Tile(128, 64, 64, 8, 3),
    Tile(64, 64, 64, 4, 4),
    Tile(32, 64, 64, 4, 4),
    Tile(16, 32, 64, 2, 5),
)
SINGLE_INCREMENTAL = (
    Tile(64, 64, 32, 8, 3),
    Tile(64, 32, 32, 4, 4),
    Tile(32, 32, 32, 4, 4),
    Tile(16, 32, 32, 2, 4),
)
DEPTHWISE = (
    Tile(32, 64, 1, 4, 2),
    Tile(64, 32, 1, 4, 2),
    Tile(16, 64, 1, 4, 2),
    Tile(16, 32, 1, 2, 2),
)
# Of attention: queries, keys, and no depth, as a head's channels are all there at once.
HALF_ATTENTION = (
    Tile(64, 64, 1, 4, 3),
    Tile(128, 64, 1, 8, 3),
    Tile(64, 32, 1, 4, 3),
    Tile(32, 64, 1, 4, 3),
    Tile(16, 32, 1, 2, 3),
)
SINGLE_ATTENTION = (
    Tile(64, 32, 1, 4, 2),
    Tile(32, 32, 1, 4, 2),
    Tile(16, 32, 1, 2, 2),
)
FEWEST_COLUMNS = 16  # of a tensor-core product


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least ``number``."""
    return 1 << (number - 1).bit_length()


def conv_tiles(dtype: torch.dtype, out_channels: int, depth: int) -> tuple[Tile, ...]:
    """Tiles for a convolution.

    Args:
        dtype: Of the features.
        out_channels: Of one group.
        depth: Padded input channels of one group.
    """
    tiles = SINGLE if dtype.itemsize == 4 else HALF
    return _fitting(tiles, out_channels, depth)


def incremental_tiles(dtype: torch.dtype, out_channels: int, depth: int) -> tuple[Tile, ...]:
    """Tiles for a last convolution that has its output in double precision in registers, too.

    Arguments as of :func:`conv_tiles`.
    """
    tiles = SINGLE_INCREMENTAL if dtype.itemsize == 4 else HALF_INCREMENTAL
    return _fitting(tiles, out_channels, depth)


def depthwise_tiles(dtype: torch.dtype, out_channels: int, depth: int) -> tuple[Tile, ...]:
    """Tiles for a depthwise convolution, whose loop goes over taps, not over channels.

    Arguments as of :func:`conv_tiles`.
    """
    return _fitting(DEPTHWISE, out_channels, depth)


def masker_conv1_tiles(
    dtype: torch.dtype, out_channels: int, depth: int, patch_rows: int
) -> tuple[Tile, ...]:
    """Tiles for the fused kernel, which has the features in double precision in registers, too.

    Args:
        dtype: Of the features.
        out_channels: Of the convolution.
        depth: Its padded input channels.
        patch_rows: Rows that a patch takes; a tile consists of whole patches.
    """
    tiles = []
    for tile in SINGLE_MASKER if dtype.itemsize == 4 else HALF_MASKER:
        rows = max(tile.rows, patch_rows)
        # 16 values of a thread at a time: they take 32 registers in double precision.
        warps = min(8, max(tile.warps, rows * tile.depth // 512))
        step = min(tile.depth, max(16, 512 * warps // rows))
        tiles.append(Tile(rows, tile.columns, step, warps, tile.stages))
    return _fitting(tiles, out_channels, depth)


def attention_tiles(dtype: torch.dtype) -> tuple[Tile, ...]:
    """Tiles for attention of a dtype: queries by keys."""
    return SINGLE_ATTENTION if dtype.itemsize == 4 else HALF_ATTENTION


def _fitting(tiles: Sequence[Tile], out_channels: int, depth: int) -> tuple[Tile, ...]:
    """The tiles, clipped to a convolution, without repetitions."""
    widest = max(FEWEST_COLUMNS, power_of_two(out_channels))
    fitting = []
    for tile in tiles:
        step = tile.depth
        while depth % step:
            step //= 2
        fitting.append(replace(tile, columns=min(tile.columns, widest), depth=step))
    return tuple(dict.fromkeys(fitting))
