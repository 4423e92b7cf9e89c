"""The blocks that are measured: an identity block of each stage of a family."""

from torch import nn

from las_mm.layers import DynamicBlock, DynamicBottleneck

from .inverted import InvertedResidual

# Input, middle, groups and squeezed channels of each stage, whose strides are 4, 8, 16 and 32.
BOTTLENECKS = {
    'resnet': [(256, 64, 1, 0), (512, 128, 1, 0), (1024, 256, 1, 0), (2048, 512, 1, 0)],
    # RegNetY-800MF: groups of 16 channels.
    'regnety': [(64, 64, 4, 16), (144, 144, 9, 36), (320, 320, 20, 80), (784, 784, 49, 196)],
}
# The same without squeeze-and-excitation.
BOTTLENECKS['regnet'] = [(*shape, 0) for *shape, _ in BOTTLENECKS['regnety']]
# Channels and stride of MobileNetV2's stages with a shortcut; the middle is six times as wide.
INVERTED = [(24, 4), (32, 8), (64, 16), (96, 16), (160, 32)]


def channels_and_stride(family: str, stage: int) -> tuple[int, int]:
    """Of the features of a stage, counted from 1.

    Raises:
        ValueError: If the family has no such stage.
    """
    count = len(INVERTED if family == 'mobilenet' else BOTTLENECKS[family])
    if not 1 <= stage <= count:
        raise ValueError(f'--stages: got {stage}; {family} has 1 to {count}')
    if family == 'mobilenet':
        return INVERTED[stage - 1]
    return BOTTLENECKS[family][stage - 1][0], 2 ** (stage + 1)


def make_block(family: str, stage: int, granularity: int) -> DynamicBlock:
    """A block of a stage, whose branch adds little: it may run in place for long."""
    if family == 'mobilenet':
        block: DynamicBlock = InvertedResidual(INVERTED[stage - 1][0], granularity)
    else:
        channels, middle, groups, squeezed = BOTTLENECKS[family][stage - 1]
        options = dict(groups=groups, squeeze_channels=squeezed)
        block = DynamicBottleneck(channels, middle, channels, granularity, **options)
    nn.init.constant_(block.branch.steps[-1].norm.weight, 1e-3)
    return block
