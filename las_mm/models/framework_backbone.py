"""What the frameworks' backbones have in common, for type checkers."""

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:

    class Backbone(nn.Module):
        """What a mixin may ask of mmdet's, mmpretrain's and torchvision's backbones."""

        depth: int
        widen_factor: float
        frozen_stages: int
        arch_settings: dict[Any, Any]
        conv1: nn.Conv2d
        maxpool: nn.MaxPool2d
        stem: nn.Sequential

        def _freeze_stages(self) -> None: ...

        def make_res_layer(self, block: type[nn.Module], **kwargs: Any) -> nn.Module: ...

        def make_layer(self, *args: Any, **kwargs: Any) -> nn.Sequential: ...

        def quantize_float(self, number: float, divisor: int) -> int: ...

else:
    # The frameworks have these; a declaration among the bases of a mixin would hide theirs.
    Backbone = nn.Module
