"""Squeeze-and-excitation of the authors' simulator: seconds, launches included.

Its search for a global mean is not known line by line. What stands here was found by holding
hypotheses against its numbers: a whole gate is theirs within a few per cent, a network within one.
"""

import numpy as np

from .hardware import LAUNCH, Hardware, grid
from .operators import Patches, fully_connected


def squeeze_excitation(
    hardware: Hardware, channels: int, squeeze: int, size: int, batch: int
) -> float:
    """Mean, two linear layers, and the product of each channel with its own number."""
    elements = batch * channels * size**2
    slow = hardware.onchip * float(hardware.efficiency(size, 0))
    product = (2 * elements + batch * channels) / hardware.offchip + 2 * elements / slow
    mean = global_mean(hardware, channels, size, batch)
    return mean + product + LAUNCH + _linear_layers(hardware, channels, squeeze, batch)


def global_mean(hardware: Hardware, channels: int, size: int, batch: int) -> float:
    """The mean over (size, size) maps.

    Quirks: all elements cross the on-chip bus twice, the sums of tiles cross either bus twice; an
    image's products share the lanes with those of the whole batch, but only one pixel at a time.
    """
    (channel, row, column), count = grid(channels, size, size)
    sums, pixels = count * channel, row * column
    slow = hardware.onchip * hardware.efficiency(column, size - column)
    data = 2 * batch * (count * channel * pixels / slow + sums / hardware.onchip)
    outside = batch * (channels * (size**2 + 1) + 2 * sums) / hardware.offchip
    waves = np.ceil(count / hardware.engines)
    computing = 2 * hardware.computing(channel * batch, 1) * pixels * waves
    return float((data + outside + computing).min()) + LAUNCH


def dynamic_squeeze_excitation(
    hardware: Hardware, channels: int, squeeze: int, size: int, patches: Patches, batch: int
) -> float:
    """The same over active patches.

    Quirk: as for copies of patches, short runs slow down the off-chip bus, too.
    """
    elements, edge = channels * patches.active * patches.size**2, patches.size
    sides = 1 + 1 / float(hardware.efficiency(edge, size - edge))
    outside = elements * (1 + 3 / edge**2 + sides)
    inside = elements * (2 + sides)
    moved = outside / hardware.offchip + inside / hardware.onchip
    return moved + 2 * LAUNCH + _linear_layers(hardware, channels, squeeze, batch)


def _linear_layers(hardware: Hardware, channels: int, squeeze: int, batch: int) -> float:
    return fully_connected(hardware, channels, squeeze, batch) + fully_connected(
        hardware, squeeze, channels, batch
    )
