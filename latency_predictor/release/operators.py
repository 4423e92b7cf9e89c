"""Operators of the authors' simulator: seconds of each with its best tile, launch included.

What it does otherwise than one would expect is kept and said at its place, as "quirk".
"""

from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np

from .hardware import LAUNCH, Hardware, grid, tiles

TOGETHER = 256  # the most patches that an engine computes at once


@dataclass(frozen=True)
class Conv:
    """A convolution over maps.

    Attributes:
        inputs: C_in.
        outputs: C_out.
        height: Of the output.
        width: Of the output.
        kernel: Edge of the window.
        stride: As in a convolution.
        groups: As in a convolution.
        keeps: ρ_in and ρ_out, shares of active channels of input and output.
    """

    inputs: int
    outputs: int
    height: int
    width: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    keeps: tuple[float, float] = (1.0, 1.0)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one output, and weights of one output channel."""
        return self.inputs // self.groups * self.kernel**2

    def read(self, channels: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """Input elements of a tile. Quirk: the halo is strided, too: (h + k - 1) s."""
        groups = np.ceil(channels * self.groups / self.outputs)
        edges = (height + self.kernel - 1) * (width + self.kernel - 1) * self.stride**2
        return groups * (self.inputs // self.groups) * edges

    @property
    def source(self) -> int:
        """Elements of one input map."""
        return self.inputs * self.height * self.width * self.stride**2


def convolution(hardware: Hardware, conv: Conv, batch: int) -> float:
    """A dense convolution, or one with a share of its channels."""
    (channels, height, width), count = grid(conv.outputs, conv.height, conv.width)
    kept_in, kept_out = conv.keeps
    single = batch == 1  # only then are weights of skipped channels left where they are
    weights = channels * conv.macs * (kept_in * kept_out if single else 1)
    outputs = channels * height * width
    moved = weights + batch * (kept_in * conv.read(channels, height, width) + kept_out * outputs)
    data = count * moved / (hardware.onchip * hardware.efficiency(width, conv.width - width))
    data += (
        conv.outputs * conv.macs * (kept_out if single else 1)
        + batch * (kept_in * conv.source + kept_out * conv.outputs * conv.height * conv.width)
    ) / hardware.offchip
    busy = np.array([busiest_share(conv.outputs, int(c), kept_in * kept_out) for c in channels])
    waves = np.ceil(count / hardware.engines)
    computing = batch * hardware.computing(outputs, conv.macs) * kept_in * busy * waves
    return float((data + computing).min()) + LAUNCH


@cache
def busiest_share(channels: int, tile: int, share: float) -> float:
    """Expected share of active channels in the tile that has most of them.

    The simulator takes the mean of a hundred draws; this is what they are draws of. Quirk: a
    channel is active with the probability ρ_in ρ_out, so that a layer inside a block is charged
    about c³ and the one behind it about c².
    """
    if share in (0, 1):
        return share
    size, parts = min(tile, channels), ceil(channels / tile)
    counts = np.arange(size + 1)
    logs = np.array([0.0, *np.cumsum(np.log(np.arange(1, size + 1)))])  # of the factorials
    ways = logs[-1] - logs - logs[::-1]
    chances = np.exp(ways + counts * np.log(share) + (size - counts) * np.log1p(-share))
    below = np.minimum(np.cumsum(chances), 1.0) ** parts
    expected = float((1 - below[:-1]).sum()) / size
    return max(expected, share)


@dataclass(frozen=True)
class Patches:
    """Active patches of a batch.

    Attributes:
        size: S.
        active: P.
        all: Patches of all masks, active or not.
    """

    size: int
    active: int
    all: int

    @classmethod
    def of(cls, height: int, width: int, size: int, rate: float, batch: int) -> 'Patches':
        """At a rate of the patches of (height, width) maps, rounded up in each image."""
        count = ceil(height / size) * ceil(width / size)
        return cls(size, batch * ceil(rate * count - 1e-9), batch * count)


def dynamic_convolution(
    hardware: Hardware, conv: Conv, patches: Patches, batch: int, indexed: bool
) -> float:
    """A convolution at active patches; ``indexed`` if it fetches them from a map by itself.

    Quirks: patches are never spread over engines, each walks through all of them; every access is
    taken for contiguous; the tile is the best one of the mean number of patches.
    """
    size, together = patches.size, tiles(TOGETHER)
    (channels, height, width), count = grid(conv.outputs, size, size)
    outputs = channels * height * width
    moved = outputs + conv.read(channels, height, width)
    waves = np.ceil(count / hardware.engines)

    def seconds(active: float) -> np.ndarray:
        data = count * (channels * conv.macs + moved * active) / hardware.onchip
        fetched = active * conv.inputs * ((size + conv.kernel - 1) * conv.stride) ** 2
        outside = conv.outputs * (conv.macs + active * size**2)
        outside += batch * conv.source if indexed else fetched
        rounds = np.ceil(active / together)[:, None]
        computing = hardware.computing(outputs * together[:, None], conv.macs) * rounds * waves
        return data + outside / hardware.offchip + computing

    best = seconds((patches.all + batch) / 2).argmin()
    return float(seconds(patches.active).ravel()[best]) + LAUNCH


def addition(hardware: Hardware, channels: int, height: int, width: int, batch: int) -> float:
    """An elementwise operator with two inputs. Quirk: all tiles move at the off-chip bandwidth."""
    edges, count = grid(channels, height, width)
    outputs = edges[0] * edges[1] * edges[2]
    data = count * 3 * outputs * batch / hardware.offchip
    computing = batch * hardware.computing(outputs, 1) * np.ceil(count / hardware.engines)
    return float((data + computing).min()) + LAUNCH


def scatter_addition(
    hardware: Hardware, channels: int, height: int, width: int, patches: Patches, batch: int
) -> float:
    """Active patches added to their places in a map."""
    size, active = patches.size, patches.active
    (channel, row, column), count = grid(channels, size, size)
    outputs = channel * row * column
    slow = hardware.onchip * hardware.efficiency(column, size - column)
    data = count * 3 * outputs * active / slow
    outside = channels * (active * size**2 + 2 * batch * height * width) / hardware.offchip
    waves = np.ceil(count / hardware.engines)
    # Without an active patch nothing is computed.
    computing = hardware.computing(outputs * active, 1) * waves if active else 0.0
    return float((data + outside + computing).min()) + LAUNCH


def average(hardware: Hardware, channels: int, height: int, width: int, batch: int) -> float:
    """The mean over a map: read and written once on either bus."""
    moved = batch * channels * (height * width + 1)
    return moved / hardware.offchip + moved / hardware.onchip + LAUNCH


def fully_connected(hardware: Hardware, inputs: int, outputs: int, batch: int) -> float:
    """A linear layer. Quirks: the number of tiles is taken for the tile's own size, and weights
    are read again for each image."""
    (out, into), _ = grid(outputs, inputs)
    count = out * into
    moved = batch * count * (out * into + into + out)
    data = moved / (hardware.onchip * hardware.efficiency(into, inputs - into))
    outside = batch * (inputs * outputs + inputs + outputs) / hardware.offchip
    computing = hardware.computing(out, 1) * into * np.ceil(count / hardware.engines)
    return float((data + computing).min()) + outside + LAUNCH


def copy(hardware: Hardware, channels: int, width: int, patches: Patches) -> float:
    """Gather, or scatter, of active patches out of, or into, a map; nothing is computed.

    Quirk: the side with short runs is charged by its efficiency off chip, too.
    """
    size, moved = patches.size, channels * patches.active * patches.size**2
    sides = 1 + 1 / float(hardware.efficiency(size, width - size))
    return moved * sides / hardware.onchip + moved * sides / hardware.offchip + LAUNCH


def elementwise(hardware: Hardware, tokens: int, channels: int, batch: int) -> float:
    """An activation of a transformer; an :func:`addition`, both inputs of it included (quirk)."""
    return addition(hardware, channels, tokens, 1, batch)


def linear(hardware: Hardware, tokens: int, inputs: int, outputs: int, batch: int) -> float:
    """A linear layer of tokens: a 1x1 convolution over a map of them that is about square."""
    height = round(tokens**0.5)
    return convolution(hardware, Conv(inputs, outputs, height, round(tokens / height)), batch)
