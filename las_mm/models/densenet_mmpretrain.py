"""LAS-DenseNet as a backbone of mmpretrain's classifiers: dense layers with a masker each."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models.backbones.densenet import DenseLayer, DenseNet
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from las_mm.layers import CHANNELS, DILATED, SITES, Branch, DynamicBlock, Step

from .backbone import DynamicBackbone, Grains, Stage
from .stem import STEM_LAYERS, StemLayer


class LASDenseLayer(DynamicBlock, DenseLayer):
    """A dense layer that computes new features at active patches only.

    There is no addition: the concatenation of all features takes the place of the shortcut, and
    skipped pixels of the new features are zero. Norms stand before the convolutions.
    """

    act: nn.Module
    drop_rate: float

    @property
    def branch(self) -> Branch:
        first = Step('conv1', self.conv1, self.norm1, self.act, (DILATED, CHANNELS), True)
        second = Step('conv2', self.conv2, self.norm2, self.act, (SITES, CHANNELS), True)
        return Branch((first, second), join='concat')

    def body(
        self, x: Tensor, pixels: Tensor | None = None, channels: Tensor | None = None
    ) -> Tensor:
        x = super().body(x, pixels, channels)
        return F.dropout(x, self.drop_rate, self.training) if self.drop_rate else x

    def forward(self, x: Sequence[Tensor] | Tensor, private: bool = False) -> Tensor:
        """Features (N, C_i, H, W) of all layers before -> new ones (N, growth_rate, H, W)."""
        return super().forward(x if isinstance(x, Tensor) else torch.cat(list(x), 1), private)


@MODELS.register_module()
class LASDenseNet(DynamicBackbone, DenseNet):
    """LAS-DenseNet for mmpretrain; each of the four dense blocks is a stage.

    Args:
        arch: ``'121'``, ``'161'``, ``'169'``, ``'201'`` or DenseNet's dict.
        granularity: S_net, one S per dense block, as ``'4-4-2-1'`` or a sequence; ``'all'``
            computes its layers whole or not at all, None computes all pixels.
        executor: How inference runs; dense layers run ``dense`` whichever it is.
        freeze_maskers: Whether ``frozen_stages`` freeze their maskers, too.
        masker: Further arguments of :class:`~las_mm.layers.SpatialMasker`.
        channel_groups: Channels per group of those that LAUDNet skips between the convolutions, one
            number per stage, as ``'2-2-2-2'`` or a sequence; None for none.
        channel_masker: Further arguments of :class:`~las_mm.layers.ChannelMasker`.
        **kwargs: Every other option of mmpretrain's DenseNet.

    Raises:
        TypeError, ValueError: If an option is not one of the allowed ones.

    Example:
        >>> LASDenseNet('121', granularity='4-4-2-1')
    """

    def __init__(
        self,
        arch: str | dict = '121',
        granularity: Grains = (4, 4, 2, 1),
        executor: str = 'dense',
        freeze_maskers: bool = False,
        masker: dict | None = None,
        channel_groups: Grains = None,
        channel_masker: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(arch, dict) and arch not in self.arch_settings:
            allowed = ', '.join(sorted(self.arch_settings))
            raise ValueError(f'arch: got {arch!r}; choose one of {allowed}, or give a dict')
        super().__init__(arch, **kwargs)
        for layer in self.modules():
            if type(layer) is DenseLayer:
                layer.__class__ = LASDenseLayer  # DenseNet names its layers' class in its own code
                layer.with_cp = layer.memory_efficient  # both: compute again in the backward pass
        self.make_dynamic(
            granularity, executor, freeze_maskers, masker, channel_groups, channel_masker
        )
        self.arch_name = arch if isinstance(arch, str) else 'custom'
        self._freeze_stages()  # again: now there are maskers

    # What DenseNet is made of; type checkers cannot know what these modules have inside.
    stem: Any
    stages: Any
    transitions: Any

    @property
    def title(self) -> str:
        return f'LAS-DenseNet-{self.arch_name}'

    @property
    def dynamic_stages(self) -> dict[str, Stage]:
        return {f'stages.{index}.block': stage.block for index, stage in enumerate(self.stages)}

    @property
    def stem_layers(self) -> list[StemLayer]:
        return [self.stem[0], self.stem[-1]]

    def layers_after(self, stage: int) -> list[StemLayer]:
        """The transition's convolution and pooling; a norm alone is behind the last stage."""
        transition = self.transitions[stage]
        return [part for part in transition.modules() if isinstance(part, STEM_LAYERS)]
