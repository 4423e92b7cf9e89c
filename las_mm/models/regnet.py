"""RegNetX and RegNetY, static and LAS (Sec. 4.3.2), whatever the framework."""

from typing import Any, ClassVar

from torch import nn

from las_mm.layers import GatedBlock

from .backbone import DynamicBackbone, Grains, refuse_options
from .framework_backbone import Backbone


def _arch(w0: int, wa: float, wm: float, group_w: int, depth: int, se_ratio: float = 0) -> dict:
    shape = dict(w0=w0, wa=wa, wm=wm, group_w=group_w, depth=depth, bot_mul=1.0)
    return dict(shape, se_ratio=se_ratio, torchvision_widths=True)


# What OpenMMLab's tables lack, in its notation (Radosavovic et al., "Designing Network Design
# Spaces", Appendix D; the values are those that torchvision's weights were trained with).
ARCHITECTURES: dict[str, dict] = {
    'regnetx_16gf': _arch(216, 55.59, 2.1, 128, 22),
    'regnetx_32gf': _arch(320, 69.86, 2.0, 168, 23),
    'regnety_400mf': _arch(48, 27.89, 2.09, 8, 16, se_ratio=0.25),
    'regnety_800mf': _arch(56, 38.84, 2.4, 16, 14, se_ratio=0.25),
    'regnety_1.6gf': _arch(48, 20.71, 2.65, 24, 27, se_ratio=0.25),
    'regnety_3.2gf': _arch(80, 42.63, 2.66, 24, 21, se_ratio=0.25),
    'regnety_8.0gf': _arch(192, 76.82, 2.19, 56, 17, se_ratio=0.25),
    'regnety_16gf': _arch(200, 106.23, 2.48, 112, 18, se_ratio=0.25),
    'regnety_32gf': _arch(232, 115.89, 2.53, 232, 20, se_ratio=0.25),
    'regnety_128gf': _arch(456, 160.83, 2.52, 264, 27, se_ratio=0.25),
}


class SERegNetMixin(Backbone):
    """Static RegNetX/Y; mixed into a framework's RegNet, which has no squeeze-and-excitation.

    Args:
        arch: Name of an architecture, such as ``'regnety_400mf'`` or ``'regnetx_3.2gf'``, or a dict
            of ``w0, wa, wm, group_w, depth, bot_mul`` and, for RegNetY, ``se_ratio`` and
            ``torchvision_widths``, which rounds widths to groups as torchvision does.
        se_pool: What squeeze-and-excitation averages over: ``'active'`` pixels, or ``'all'``, which
            the authors' RegNetY checkpoints need; blocks that skip pixels then run densely.
        **kwargs: Every option of the framework's RegNet, except ``dcn`` and ``plugins``.

    Raises:
        ValueError: If an option is not one of the allowed ones.
    """

    gated_block: ClassVar[type[GatedBlock]]

    def __init__(
        self, arch: str | dict = 'regnety_400mf', se_pool: str = 'active', **kwargs: Any
    ) -> None:
        refuse_options(kwargs, 'dcn', 'plugins')
        if se_pool not in ('active', 'all'):
            raise ValueError(f"se_pool: got {se_pool!r}; choose one of 'active', 'all'")
        self.arch = find_architecture(arch, {**self.arch_settings, **ARCHITECTURES})
        self.arch_name = arch if isinstance(arch, str) else 'regnet'
        super().__init__(self.arch, **kwargs)
        if self.arch.get('se_ratio'):
            for block in self.modules():
                if isinstance(block, GatedBlock):
                    squeeze = round(self.arch['se_ratio'] * block.conv1.in_channels)
                    block.add_gate(squeeze, pools_all=se_pool == 'all')
        self._freeze_stages()  # again: now there are gates

    def quantize_float(self, number: float, divisor: int) -> int:
        """The multiple of ``divisor`` nearest to ``number``.

        torchvision rounds halves up and never loses more than a tenth, OpenMMLab halves to even;
        it matters in RegNetX-400MF and RegNetY-800MF and 8.0GF. Each architecture follows the one
        that its published weights have.
        """
        if not self.arch.get('torchvision_widths'):
            return super().quantize_float(number, divisor)
        nearest = int(number + divisor / 2) // divisor * divisor
        return nearest if nearest >= 0.9 * number else nearest + divisor

    def make_res_layer(self, block: type[nn.Module], **kwargs: Any) -> nn.Module:
        """The framework's stage, of gated blocks."""
        return super().make_res_layer(block=self.gated_block, **kwargs)


class LASRegNetMixin(DynamicBackbone):
    """LAS-RegNetX/Y; mixed into a :class:`SERegNetMixin`, whose options it keeps.

    The maskers' keep bias starts at 10, twice that of a ResNet.

    Args:
        arch: As in :class:`SERegNetMixin`.
        granularity: S_net, one S per stage, as ``'4-4-2-1'`` or a sequence; ``'all'`` computes a
            stage's blocks whole or not at all, None computes all pixels.
        executor: How inference runs, see :mod:`las_mm.executors.choosing`.
        freeze_maskers: Whether ``frozen_stages`` freeze their maskers, too.
        masker: Further arguments of :class:`~las_mm.layers.SpatialMasker`.
        channel_groups: Channels per group of those that LAUDNet skips between the convolutions, one
            number per stage, as ``'2-2-2-2'`` or a sequence; None for none.
        channel_masker: Further arguments of :class:`~las_mm.layers.ChannelMasker`.
        **kwargs: Every other option of the static network.

    Raises:
        TypeError, ValueError: If an option is not one of the allowed ones.
    """

    stem_names = ('conv1', 'bn1', 'relu')

    def __init__(
        self,
        arch: str | dict = 'regnety_400mf',
        granularity: Grains = (4, 4, 2, 1),
        executor: str = 'dense',
        freeze_maskers: bool = False,
        masker: dict | None = None,
        channel_groups: Grains = None,
        channel_masker: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, **kwargs)
        masker = dict(masker or {})
        if masker.get('kind', 'pool') == 'pool':
            masker.setdefault('keep_bias', 10.0)
        self.make_dynamic(
            granularity, executor, freeze_maskers, masker, channel_groups, channel_masker
        )
        self._freeze_stages()  # again: now there are maskers

    @property
    def title(self) -> str:
        return f'LAS-{self.arch_name}'


def find_architecture(arch: str | dict, known: dict[str, dict]) -> dict:
    """The parameters of an architecture, given by name or themselves.

    Raises:
        ValueError: If the name is unknown or a parameter is missing.
    """
    needed = ('w0', 'wa', 'wm', 'group_w', 'depth', 'bot_mul')
    if not isinstance(arch, dict):
        if arch not in known:
            raise ValueError(f'arch: got {arch!r}; choose one of {", ".join(sorted(known))}')
        return known[arch]
    missing = [name for name in needed if name not in arch]
    if missing:
        raise ValueError(f'arch: {missing[0]} is missing; give {", ".join(needed)}[, se_ratio]')
    return arch
