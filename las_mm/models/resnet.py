"""LAS-ResNet (Sec. 3.2), whatever the framework: it only assembles dynamic blocks."""

from typing import Any, ClassVar

from torch import nn

from las_mm.layers import DynamicBlock

from .backbone import DynamicBackbone, Grains, refuse_options


class LASResNetMixin(DynamicBackbone):
    """LAS-ResNet-18/34/50/101/152; mixed into a framework's ResNet, whose options it keeps.

    Args:
        depth: Depth of the static ResNet.
        granularity: S_net, one S per stage, as ``'4-4-7-1'`` or a sequence; ``'all'`` computes a
            stage's blocks whole or not at all, None computes all pixels.
        executor: How inference runs, see :mod:`las_mm.executors.choosing`.
        freeze_maskers: Whether ``frozen_stages`` freeze their maskers, too (left in eval mode,
            they decide without noise). By default only the static weights are frozen.
        masker: Further arguments of :class:`~las_mm.layers.SpatialMasker`, such as ``keep_bias``.
        channel_groups: Channels per group of those that LAUDNet skips between the convolutions, one
            number per stage, as ``'2-2-2-2'`` or a sequence; None for none.
        channel_masker: Further arguments of :class:`~las_mm.layers.ChannelMasker`.
        **kwargs: Every option of the framework's ResNet, except ``dcn`` and ``plugins``.

    Raises:
        TypeError, ValueError: If an option is not one of the allowed ones.
    """

    dynamic_blocks: ClassVar[dict[type[nn.Module], type[DynamicBlock]]]

    def __init__(
        self,
        depth: int,
        granularity: Grains = (4, 4, 7, 1),
        executor: str = 'dense',
        freeze_maskers: bool = False,
        masker: dict | None = None,
        channel_groups: Grains = None,
        channel_masker: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if depth not in self.arch_settings:
            allowed = ', '.join(map(str, self.arch_settings))
            raise ValueError(f'depth: got {depth!r}; choose one of {allowed}')
        refuse_options(kwargs, 'dcn', 'plugins')
        super().__init__(depth=depth, **kwargs)
        self.make_dynamic(
            granularity, executor, freeze_maskers, masker, channel_groups, channel_masker
        )
        self._freeze_stages()  # again: now there are maskers

    @property
    def title(self) -> str:
        return f'LAS-ResNet-{self.depth}'

    def make_res_layer(self, block: type[nn.Module], **kwargs: Any) -> nn.Module:
        """The framework's stage, of dynamic blocks."""
        return super().make_res_layer(block=self.dynamic_blocks[block], **kwargs)
