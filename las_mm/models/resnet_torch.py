"""LAS-ResNet of torchvision's parts alone, for machines without OpenMMLab."""

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from las_mm.layers import DynamicBlock

from .backbone import DynamicBackbone, Grains


class _TorchvisionNames(DynamicBlock):
    """torchvision calls the norms ``bn1``, ``bn2``, ``bn3``."""

    norm1 = property(lambda self: self.bn1)
    norm2 = property(lambda self: self.bn2)
    norm3 = property(lambda self: self.bn3)


class LASBasicBlock(_TorchvisionNames, BasicBlock):
    """torchvision's basic block with a masker."""


class LASBottleneck(_TorchvisionNames, Bottleneck):
    """torchvision's bottleneck with a masker."""


LAYOUTS: dict[int, tuple[type[nn.Module], list[int]]] = {
    18: (LASBasicBlock, [2, 2, 2, 2]),
    34: (LASBasicBlock, [3, 4, 6, 3]),
    50: (LASBottleneck, [3, 4, 6, 3]),
    101: (LASBottleneck, [3, 4, 23, 3]),
    152: (LASBottleneck, [3, 8, 36, 3]),
}


class TorchLASResNet(DynamicBackbone, ResNet):
    """LAS-ResNet with torchvision's state-dict names plus ``masker.*``; returns its four stages.

    Args:
        depth: 18, 34, 50, 101 or 152.
        granularity: S_net, one S per stage, as ``'4-4-7-1'`` or a sequence; ``'all'`` computes a
            stage's blocks whole or not at all, None computes all pixels.
        executor: How inference runs, see :mod:`las_mm.executors.choosing`.
        channel_groups: Channels per group of those that are skipped between the convolutions, one
            number per stage, as ``'2-2-2-2'`` or a sequence; None for none.

    Raises:
        TypeError, ValueError: If an argument is not one of the allowed ones.
    """

    bn1: nn.Module
    relu: nn.Module

    def __init__(
        self,
        depth: int,
        granularity: Grains = (4, 4, 7, 1),
        executor: str = 'dense',
        channel_groups: Grains = None,
    ) -> None:
        if depth not in LAYOUTS:
            raise ValueError(f'depth: got {depth!r}; choose one of {", ".join(map(str, LAYOUTS))}')
        super().__init__(*LAYOUTS[depth])
        self.depth = depth
        self.make_dynamic(granularity, executor, channel_groups=channel_groups)

    @property
    def title(self) -> str:
        return f'LAS-ResNet-{self.depth}'

    def _forward_impl(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> the output of each stage, at strides 4, 8, 16 and 32."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        outs = []
        for name in self.dynamic_stages:
            x = getattr(self, name)(x)
            outs.append(x)
        return tuple(outs)
