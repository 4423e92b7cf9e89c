"""ResNets for CIFAR, of 6n + 2 layers, static and LAS, as backbones of mmpretrain's classifiers."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck, ResLayer
from mmpretrain.models.backbones.resnet_cifar import ResNet_CIFAR
from mmpretrain.registry import MODELS
from torch import nn

from las_mm.layers.padded_shortcut import PaddedShortcut

from .resnet import LASResNetMixin
from .resnet_mmpretrain import LASBasicBlock, LASBottleneck, LASResLayer

# Three stages of n basic blocks (He et al., 2016, Sec. 4.2; 8, 14 and 26 are DynConv's).
NARROW = {6 * n + 2: (BasicBlock, (n, n, n)) for n in (1, 2, 3, 4, 5, 7, 9, 18)}
NARROW_OPTIONS: dict[str, Any] = dict(
    num_stages=3,
    base_channels=16,
    stem_channels=16,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(2,),
)
SHORTCUTS = ('A', 'B')


@MODELS.register_module()
class ResNetCIFAR(ResNet_CIFAR):
    """mmpretrain's ResNet for CIFAR with the depths of the first ones: 16, 32 and 64 channels.

    Args:
        depth: 8, 14, 20, 26, 32, 44, 56 or 110; or one of mmpretrain's, whose widths it then has.
        shortcut: Where the width changes: ``'A'``, subsampling and zeros, or ``'B'``, a 1×1
            convolution and its norm.
        **kwargs: Every option of mmpretrain's ResNet_CIFAR.

    Raises:
        ValueError: If an option is not one of the allowed ones.
    """

    arch_settings = {**NARROW, **ResNet_CIFAR.arch_settings}

    def __init__(self, depth: int, shortcut: str = 'B', **kwargs: Any) -> None:
        if depth not in self.arch_settings:
            allowed = ', '.join(map(str, self.arch_settings))
            raise ValueError(f'depth: got {depth!r}; choose one of {allowed}')
        if shortcut not in SHORTCUTS:
            raise ValueError(f'shortcut: got {shortcut!r}; choose one of {", ".join(SHORTCUTS)}')
        self.shortcut = shortcut
        super().__init__(depth, **{**(NARROW_OPTIONS if depth in NARROW else {}), **kwargs})

    def make_res_layer(self, block: type[nn.Module], **kwargs: Any) -> ResLayer:
        """mmpretrain's stage, with the shortcut that is asked for."""
        return self.give_shortcut(ResLayer(block=block, **kwargs))

    def give_shortcut(self, stage: Any) -> Any:
        """Put the shortcut without parameters in the place of a stage's convolution, if asked."""
        first = stage[0]
        if self.shortcut == 'A' and first.downsample is not None:
            stride = first.conv1.stride[0] * first.conv2.stride[0]
            first.downsample = PaddedShortcut(first.out_channels, stride)
        return stage


@MODELS.register_module()
class LASResNetCIFAR(LASResNetMixin, ResNetCIFAR):
    """LAS-ResNet for CIFAR; the arguments are those of LASResNet and :class:`ResNetCIFAR`.

    All blocks have a masker. The first of a stage keeps its shortcut dense, as in LASResNet.

    Example:
        >>> LASResNetCIFAR(32, granularity='4-4-2', shortcut='A')
    """

    stem_names = ('conv1', 'bn1', 'relu')
    dynamic_blocks = {BasicBlock: LASBasicBlock, Bottleneck: LASBottleneck}

    def __init__(
        self, depth: int, granularity: str | Sequence[int | str] | None = None, **kwargs: Any
    ) -> None:
        if granularity is None:
            granularity = (4, 4, 2) if depth in NARROW else (4, 4, 2, 1)
        super().__init__(depth, granularity, **kwargs)

    @property
    def title(self) -> str:
        return f'LAS-ResNet-{self.depth}-CIFAR'

    def make_res_layer(self, block: type[nn.Module], **kwargs: Any) -> LASResLayer:
        return self.give_shortcut(LASResLayer(block=self.dynamic_blocks[block], **kwargs))
