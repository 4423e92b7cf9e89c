"""Layers outside of the blocks that inference computes together with the layer before them."""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from las_mm.ops.executors.cpu.stem import pack_stem
from las_mm.ops.folding import FoldedConv, fold_conv, forget, remember, why_not_foldable_layer

if TYPE_CHECKING:
    from las_mm.models.backbone import DynamicBackbone


class Folded(nn.Module):
    """Stands in for a layer, whose parameters and attributes it shares.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(layer.__dict__)
        self._hidden = (layer,)  # in a tuple: not a submodule, not in the state dict

    @property
    def original(self) -> nn.Module:
        """The layer that this one stands in for."""
        return self._hidden[0]


class FoldedAway(Folded):
    """Where a layer was that a convolution before it has swallowed."""

    def train(self, mode: bool = True) -> 'FoldedAway':
        """Tell the layer, which is no submodule, too."""
        self.original.train(mode)
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """The input itself."""
        return x


class FoldedConv2d(Folded, nn.Conv2d):
    """A convolution that has swallowed the batch norm after it.

    Args:
        conv: The convolution.
        norm: The batch norm, to be replaced by a :class:`FoldedAway`.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__(conv)
        self._pair = (nn.ModuleList([conv, norm]),)

    @property
    def pair(self) -> nn.ModuleList:
        """The convolution and its norm, of which the folded one is remembered."""
        return self._pair[0]

    def folded(self, dtype: torch.dtype) -> FoldedConv:
        """The two as one convolution of that dtype."""
        return remember(_fold_pair, self.pair, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """norm(conv(x)): (N, C_in, H, W) -> (N, C_out, H', W'), channels-last without gradients."""
        conv, norm = self.pair
        if torch.is_grad_enabled() or norm.training:
            forget(self.pair)
            return norm(conv(x))
        return self.folded(x.dtype)(x)


class FoldedStem(FoldedConv2d):
    """A convolution that has swallowed all that is between it and the first block.

    Args:
        conv: The convolution.
        norm: The batch norm after it.
        relu: The activation after that.
        pool: Max pooling at the end, if there is some.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, relu: nn.Module, *pool: nn.Module) -> None:
        super().__init__(conv, norm)
        self._stem = (nn.ModuleList([conv, norm, relu, *pool]),)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H', W'), in one native call where that is possible."""
        out = self._run_native(x) if x.device.type == 'cpu' else None
        if out is not None:
            return out
        out = super().forward(x)
        for layer in self._stem[0][2:]:
            out = layer(out)
        return out

    @torch.compiler.disable  # looks at addresses, and calls what a compiler cannot follow
    def _run_native(self, x: Tensor) -> Tensor | None:
        if torch.is_grad_enabled():
            forget(self._stem[0])
            return None
        native = remember(pack_stem, self._stem[0], x.dtype)
        return None if native is None else native.run(x)


def _fold_pair(pair: nn.ModuleList, dtype: torch.dtype) -> FoldedConv:
    """Folded, with the weight in channels-last memory, as oneDNN then keeps the output."""
    conv, norm = pair
    return fold_conv(cast(nn.Conv2d, conv), norm, dtype, torch.channels_last)


def fold_stem(backbone: 'DynamicBackbone') -> None:
    """Let a backbone's first convolution do what comes before the first block, if it is plain."""
    names = backbone.stem_names
    layers = [getattr(backbone, name, None) for name in names]
    plain = [isinstance(layer, nn.Module) and not _has_hooks(layer) for layer in layers]
    if not plain or not all(plain):
        return
    conv, norm, *rest = cast(list[nn.Module], layers)
    if not why_not_foldable_layer(conv, norm):
        setattr(backbone, names[0], FoldedStem(cast(nn.Conv2d, conv), norm, *rest))
        for name, layer in zip(names[1:], [norm, *rest], strict=True):
            setattr(backbone, name, FoldedAway(layer))


def _has_hooks(layer: nn.Module) -> bool:
    """Whether somebody wants to see what this layer does."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def fold_norms(parent: nn.Module) -> None:
    """Fold each batch norm that directly follows its convolution, by order and by name."""
    children = list(parent.named_children())
    for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, _BatchNorm):
            continue
        in_sequence = isinstance(parent, nn.Sequential)
        belongs = in_sequence or norm_name == conv_name.replace('conv', 'bn')
        # mmcv's ConvModule can put them in another order than it registers them.
        usual = tuple(getattr(parent, 'order', ('conv', 'norm')))[:2] == ('conv', 'norm')
        if belongs and usual and not why_not_foldable_layer(conv, norm):
            setattr(parent, conv_name, FoldedConv2d(conv, norm))
            setattr(parent, norm_name, FoldedAway(norm))
