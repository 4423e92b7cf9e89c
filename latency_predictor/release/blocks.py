"""Bottlenecks of the authors' simulator, static and with patches, layers or channels skipped."""

from dataclasses import dataclass, replace

from .gates import dynamic_squeeze_excitation, squeeze_excitation
from .hardware import Hardware
from .operators import (
    Conv,
    Patches,
    addition,
    average,
    convolution,
    dynamic_convolution,
    fully_connected,
    scatter_addition,
)

REDUCTION = 16  # of the hidden layer of the channel masker


@dataclass(frozen=True)
class Bottleneck:
    """A bottleneck.

    Attributes:
        inputs: C_in.
        width: Channels between the convolutions.
        outputs: C_out.
        size: Edge of the output map.
        stride: Of the 3x3 convolution. Quirk: only a strided block has a shortcut convolution, so
            that the one of the first stage is never counted.
        groups: Of the 3x3 convolution.
        squeeze: Channels inside a squeeze-and-excitation after it; 0 for none.
    """

    inputs: int
    width: int
    outputs: int
    size: int
    stride: int = 1
    groups: int = 1
    squeeze: int = 0

    @property
    def convs(self) -> tuple[Conv, Conv, Conv]:
        """The three convolutions."""
        source = self.size * self.stride
        return (
            Conv(self.inputs, self.width, source, source),
            Conv(self.width, self.width, self.size, self.size, 3, self.stride, self.groups),
            Conv(self.width, self.outputs, self.size, self.size),
        )


def shortcut(hardware: Hardware, block: Bottleneck, batch: int) -> float:
    """Seconds of the shortcut's convolution."""
    if block.stride == 1:
        return 0.0
    conv = Conv(block.inputs, block.outputs, block.size, block.size, 1, block.stride)
    return convolution(hardware, conv, batch)


def static(hardware: Hardware, block: Bottleneck, batch: int) -> float:
    """Seconds of the static block, shortcut included."""
    return _branch(hardware, block, batch) + shortcut(hardware, block, batch)


def _branch(hardware: Hardware, block: Bottleneck, batch: int) -> float:
    seconds = sum(convolution(hardware, conv, batch) for conv in block.convs)
    if block.squeeze:
        seconds += squeeze_excitation(hardware, block.width, block.squeeze, block.size, batch)
    return seconds + addition(hardware, block.outputs, block.size, block.size, batch)


def layer(hardware: Hardware, block: Bottleneck, rate: float, batch: int) -> float:
    """Expected seconds of a block that runs with probability ``rate``.

    Quirk: the masker is a 1x1 convolution that reads the whole input and writes nothing.
    """
    first = block.convs[0]
    decides = replace(first, outputs=block.width + 1, keeps=(1.0, 0.0))
    fixed = convolution(hardware, decides, batch) + shortcut(hardware, block, batch)
    return fixed + rate * _branch(hardware, block, batch)


def channel(hardware: Hardware, block: Bottleneck, rate: float, group: int, batch: int) -> float:
    """Seconds of a block that computes a share of its inner channels, G in a group.

    Quirks: the masker decides on C_in / G groups rather than on those of the inner channels, which
    is all that G does; the addition scatters single pixels although all are there.
    """
    one, two, three = block.convs
    groups = block.inputs // group
    hidden = groups // REDUCTION
    seconds = sum(
        convolution(hardware, replace(conv, keeps=keeps), batch)
        for conv, keeps in ((one, (1.0, rate)), (two, (rate, rate)), (three, (rate, 1.0)))
    )
    seconds += average(hardware, block.inputs, one.height, one.width, batch)
    seconds += fully_connected(hardware, block.inputs, hidden, batch)
    seconds += fully_connected(hardware, hidden, groups, batch)
    every = Patches.of(block.size, block.size, 1, 1.0, batch)
    edge = block.size, block.size
    seconds += scatter_addition(hardware, block.outputs, *edge, every, batch)
    if block.squeeze:
        seconds += squeeze_excitation(hardware, block.width, block.squeeze, block.size, batch)
    return seconds + shortcut(hardware, block, batch)


def spatial(hardware: Hardware, block: Bottleneck, rate: float, size: int, batch: int) -> float:
    """Seconds of a block that computes a share of its S x S patches.

    Quirks: conv1 has no halo unless its density says so, and the simulator's own example gives it
    the rate of all others, as here; its patches are S x S of its own map in a strided block, too.
    """
    one, two, three = block.convs
    edge = block.size, block.size
    patches = Patches.of(*edge, size, rate, batch)
    fused = convolution(hardware, replace(one, outputs=one.outputs + 1), batch)
    inner = Patches.of(one.height, one.width, size, rate, batch)
    apart = convolution(hardware, replace(one, outputs=2), batch)
    apart += dynamic_convolution(hardware, one, inner, batch, indexed=True)
    seconds = min(fused, apart)
    seconds += dynamic_convolution(hardware, two, patches, batch, indexed=True)
    seconds += dynamic_convolution(hardware, three, patches, batch, indexed=False)
    seconds += scatter_addition(hardware, block.outputs, *edge, patches, batch)
    if block.squeeze:
        seconds += dynamic_squeeze_excitation(
            hardware, block.width, block.squeeze, block.size, patches, batch
        )
    return seconds + shortcut(hardware, block, batch)
