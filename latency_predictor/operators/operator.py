"""An operator: a count of elements, free of any device; ``schedule.schedule`` gives its latency.

Sizes named height and width are outputs of *one patch*; static operators have one patch per image.
"""

from dataclasses import dataclass

import numpy as np

Count = float | np.ndarray  # one number, or one for each activation rate (R,)
Size = tuple[int, int]  # height and width


@dataclass(frozen=True)
class Move:
    """One tensor a tile moves between on-chip memory and its processing engine, per patch.

    Attributes:
        pitch: Elements from one row of the stored tensor to the next; with the tile's width it
            gives the gap between two contiguous runs.
        window, stride: a tile edge of T outputs touches (T - 1) stride + window elements.
        group_channels: Input channels of one group of a convolution; None where the tile moves just
            its own channels (elementwise operators and all outputs).
        groups: Groups of that convolution.
        depth: Elements of the tensor behind each touched element (a whole map for a mean).
    """

    pitch: int
    window: int = 1
    stride: int = 1
    group_channels: float | None = None
    groups: int = 1
    depth: int = 1

    def elements(
        self, all_channels: int, channels: np.ndarray, height: np.ndarray, width: np.ndarray
    ) -> np.ndarray:
        """Elements for tiles of channels x height x width outputs out of ``all_channels``."""
        rows, columns = ((edge - 1) * self.stride + self.window for edge in (height, width))
        area = rows * columns * self.depth
        if self.group_channels is None:
            return channels * area
        return np.ceil(channels * self.groups / all_channels) * self.group_channels * area


@dataclass(frozen=True)
class Operator:
    """What one kernel computes and moves.

    Attributes:
        name: Shown in the breakdown.
        patches: P, how many patches of output there are in the batch; scalar or array (R,).
        channels, height, width: Outputs of one patch, C x S1 x S2.
        macs_per_output: K, multiply-accumulates (or other lane operations) for one output.
        offchip: Elements moved between off-chip and on-chip memory, all patches together.
        moves: Tensors a tile moves between on-chip memory and its engine.
        weights_per_channel: Weights a tile loads for each of its output channels.
        working_set: Elements of the tensors that ``offchip`` is a part of, whole maps; None where
            the operator touches all of them.
        distinct_input: Elements that the first of ``moves`` touches in all patches together,
            overlaps counted once; None if they do not overlap or it is not known.
        padding_share: Share of the multiply-accumulates that multiply zero padding.
        winograd_share: Lane operations of Winograd's algorithm per multiply-accumulate of the usual
            one, at most 1; None where there is no such algorithm.
        is_patch: True where the patch is an S x S cut of a map, False for a whole map.
        launches: Kernels started.
    """

    name: str
    patches: Count
    channels: int
    height: int
    width: int
    macs_per_output: float
    offchip: Count
    moves: tuple[Move, ...]
    weights_per_channel: float = 0.0
    working_set: Count | None = None
    distinct_input: Count | None = None
    padding_share: float = 0.0
    winograd_share: Count | None = None
    is_patch: bool = False
    launches: int = 1
