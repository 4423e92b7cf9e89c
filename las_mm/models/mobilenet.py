"""LAS-MobileNetV2, whatever the framework: inverted residuals of which those with a shortcut skip.

A block without a shortcut has nothing to put in the place of a skipped pixel: it is static.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from las_mm.layers import DILATED, SITES, Branch, DynamicBlock, Step, convs_of

from .backbone import DynamicBackbone, Stage
from .stem import StemLayer


class InvertedResidualBlock(DynamicBlock):
    """Expansion, depthwise convolution and linear projection; its output may be negative.

    The output is M ⊙ branch(x) + x: skipped pixels carry x. A block without a shortcut, whose
    output is branch(x), never has a masker. It runs the framework's ConvModules themselves, so
    that hooks and options of theirs see what they always see.
    """

    @property
    def has_shortcut(self) -> bool:
        """Whether the block adds its input to its output."""
        raise NotImplementedError

    @property
    def always_runs(self) -> bool:  # type: ignore[override]
        return not self.has_shortcut

    @property
    def conv_modules(self) -> list[Any]:
        """The block's ConvModules, in order."""
        raise NotImplementedError

    @property
    def branch(self) -> Branch:
        """An expansion is computed where the depthwise convolution reads it.

        Without one, the depthwise convolution stands first, and is read by a 1×1 convolution.
        """
        steps = [
            Step(
                f'conv{index}',
                part.conv,
                norm_of(part),
                act_of(part),
                runs_at=(SITES,) if index > 1 else (DILATED,),
                norm_first=tuple(part.order) != ('conv', 'norm', 'act'),
            )
            for index, part in enumerate(self.conv_modules, 1)
        ]
        return Branch(tuple(steps), join='add' if self.has_shortcut else 'none')

    def body(
        self, x: Tensor, pixels: Tensor | None = None, channels: Tensor | None = None
    ) -> Tensor:
        for part in self.conv_modules:
            x = part(x)
        return x

    def finish(self, out: Tensor, x: Tensor, pixels: Tensor | None = None) -> Tensor:
        if not self.has_shortcut:
            return out
        out = self.drop(out) if pixels is None else out * self.drop(pixels).to(out.dtype)
        return x + out


def norm_of(part: Any) -> nn.Module:
    """The norm of a ConvModule, an identity where there is none."""
    return part.norm if part.with_norm else nn.Identity()


def act_of(part: Any) -> nn.Module | None:
    """The activation of a ConvModule, None where there is none."""
    return part.activate if part.with_activation else None


class InvertedStage(nn.Sequential):
    """A stage that passes initialisation on to its maskers."""

    def init_weights(self) -> None:
        for block in self:
            for masker in block.maskers if isinstance(block, DynamicBlock) else ():
                masker.init_weights()


class LASMobileNetV2Mixin(DynamicBackbone):
    """LAS-MobileNetV2; mixed into a framework's MobileNetV2, whose options it keeps.

    The blocks with a shortcut have a masker; those that change the resolution or the width have
    none and always run, half of the network's MACs at 224×224.

    Args:
        widen_factor: Factor of all widths.
        granularity: S_net, one S for each stage that has a block with a shortcut, as
            ``'4-4-2-2-1'`` or a sequence of integers; at most widths these are ``layer2`` to
            ``layer6``.
        executor: How inference runs, see :mod:`las_mm.executors.choosing`.
        freeze_maskers: Whether ``frozen_stages`` freeze their maskers, too.
        masker: Further arguments of :class:`~las_mm.layers.Masker`, such as ``keep_bias``.
        **kwargs: Every other option of the framework's MobileNetV2.

    Raises:
        TypeError, ValueError: If an option is not one of the allowed ones.
    """

    stem_names = ()  # the stem is a ConvModule, folded as any other
    static_block: ClassVar[type[nn.Module]]
    dynamic_block: ClassVar[type[InvertedResidualBlock]]
    layers: list[str]

    def __init__(
        self,
        widen_factor: float = 1.0,
        granularity: str | Sequence[int | str] | None = None,
        executor: str = 'dense',
        freeze_maskers: bool = False,
        masker: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(widen_factor=widen_factor, **kwargs)
        if granularity is None:
            granularity = [GRANULARITY[name] for name in self.dynamic_stages]
        for name, part in self.named_modules():
            if isinstance(part, InvertedResidualBlock):
                part.make_dynamic(None, name)
        self.make_dynamic(granularity, executor, freeze_maskers, masker)
        self._freeze_stages()  # again: now there are maskers

    def make_layer(self, *args: Any, **kwargs: Any) -> nn.Sequential:
        """The framework's stage; executors run its blocks, and those with a shortcut skip."""
        stage = super().make_layer(*args, **kwargs)
        for block in stage:
            if type(block) is self.static_block:
                block.__class__ = self.dynamic_block
        return InvertedStage(*stage)

    @property
    def title(self) -> str:
        return f'LAS-MobileNetV2-{self.widen_factor:g}'

    @property
    def dynamic_stages(self) -> dict[str, Stage]:
        """The stages with a dynamic block, of these blocks alone."""
        stages: dict[str, Stage] = {}
        for name in self.layers:
            children = getattr(self, name).children()
            stage = [part for part in children if is_residual(part)]
            if stage:
                stages[name] = stage
        return stages

    @property
    def sequences(self) -> list[nn.Sequential]:
        parts = [getattr(self, name) for name in self.layers]
        return [part for part in parts if isinstance(part, InvertedStage)]

    @property
    def single_convs(self) -> list[nn.Module]:
        parts = [self.conv1, *(getattr(self, name) for name in self.layers)]
        return [part for part in parts if not isinstance(part, nn.Sequential)]

    @property
    def stem_layers(self) -> list[StemLayer]:
        """Convolutions before the first block with a shortcut."""
        return self._fixed_layers()[0]

    def layers_after(self, stage: int) -> list[StemLayer]:
        """Convolutions of the blocks without a shortcut that come next, or of the end."""
        return self._fixed_layers()[stage + 1]

    def _fixed_layers(self) -> list[list[StemLayer]]:
        """What always runs: before the first stage, and after each one."""
        fixed: list[list[StemLayer]] = [[*convs_of(self.conv1)]]
        for name in self.layers:
            part = getattr(self, name)
            blocks = list(part) if isinstance(part, InvertedStage) else [part]
            fixed[-1] += [conv for b in blocks if not is_residual(b) for conv in convs_of(b)]
            if any(map(is_residual, blocks)):
                fixed.append([])
        return fixed


def is_residual(part: nn.Module) -> bool:
    """Whether a part is a block that adds its input to its output, and so can skip."""
    return isinstance(part, InvertedResidualBlock) and part.has_shortcut


# S by stage, so that patches divide the maps of 224×224 images and are as small as worthwhile.
GRANULARITY = {
    **dict(layer1=4, layer2=4, layer3=4),
    **dict(layer4=2, layer5=2, layer6=1, layer7=1),
}
