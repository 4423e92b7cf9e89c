"""MobileNetV2's block of plain PyTorch layers, for machines without OpenMMLab."""

from torch import nn

from las_mm.layers import DILATED, SITES, Branch, DynamicBlock, Step


class InvertedResidual(DynamicBlock):
    """Expansion, depthwise 3×3 and linear projection, added to the input.

    Args:
        channels: Of input and output.
        granularity: S, or ``'all'``.
        expand: Inner channels for each channel of the input.
    """

    def __init__(self, channels: int, granularity: int | str, expand: int = 6) -> None:
        super().__init__()
        inner = channels * expand
        self.expand = nn.Conv2d(channels, inner, 1, bias=False)
        self.depthwise = nn.Conv2d(inner, inner, 3, 1, 1, groups=inner, bias=False)
        self.project = nn.Conv2d(inner, channels, 1, bias=False)
        self.norms = nn.ModuleList(map(nn.BatchNorm2d, (inner, inner, channels)))
        self.act = nn.ReLU6(inplace=True)
        self.make_dynamic(granularity)

    @property
    def branch(self) -> Branch:
        layers = zip((self.expand, self.depthwise, self.project), self.norms, strict=True)
        one, two, three = layers
        return Branch(
            (
                Step('expand', *one, self.act, (DILATED,)),
                Step('depthwise', *two, self.act, (SITES,)),
                Step('project', *three, None, (SITES,)),
            )
        )
