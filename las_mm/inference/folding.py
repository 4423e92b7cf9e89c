"""Layers outside of the blocks that inference computes together with the layer before them."""

from collections.abc import Sequence
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from las_mm.executors.cpu.stem import pack_stem
from las_mm.executors.folding import (
    FoldedConv,
    fold_conv,
    why_not_act,
    why_not_foldable_layer,
)
from las_mm.executors.memory import Memory
from las_mm.models import DynamicBackbone
from las_mm.ops.compiling import not_compiled
from las_mm.ops.gradients import is_exported, is_recorded, wants_gradients
from las_mm.ops.plain import NORMS, inherits, is_watched, runs_as_shipped, why_not_plain
from las_mm.ops.reasons import log_once

from .recording import export_stem
from .stand_ins import StandIn, run_own, stand_in


class Fold:
    """A convolution and the layers right after it, computed in one piece while nobody looks.

    Args:
        parent: The module that they are children of, whose forward runs one after the other.
        names: Their names: a convolution, a norm and, in a stem, activation and pooling.
        memory_format: Memory layout of the folded weights, and so of the output.
    """

    def __init__(
        self, parent: nn.Module, names: Sequence[str], memory_format: torch.memory_format
    ) -> None:
        self.parent, self.names, self.memory_format = parent, tuple(names), memory_format
        self.layers = nn.ModuleList([getattr(parent, name) for name in names])
        self.memory = Memory()

    def applies(self, x: Tensor) -> bool:
        """Whether the convolution may do the work of all on ``x``."""
        if is_recorded() or wants_gradients(self.layers, x) or not self._is_whole():
            return False
        reason = self.memory.remember(_why_not, self.layers, x.dtype)
        if reason:
            log_once(f'inference: some layers are not folded: {reason}')
        return not reason

    def _is_whole(self) -> bool:
        """Whether the parent still runs these layers one after the other."""
        children = self.parent._modules
        same = all(children.get(n) is c for n, c in zip(self.names, self.layers, strict=True))
        return same and runs_as_shipped(self.parent, *FORWARDS)

    def export(self, x: Tensor) -> Tensor | None:
        """What comes out of the last layer, in an exported program; None if all must run."""
        if len(self.layers) < 3 or not self._is_whole() or any(map(is_watched, self.layers)):
            return None
        return export_stem(self.layers, x)

    def folded(self, dtype: torch.dtype) -> FoldedConv:
        """Convolution and norm as one convolution of that dtype."""
        fold = _fold_channels_last if self.memory_format is torch.channels_last else _fold
        return self.memory.remember(fold, self.layers, dtype)

    def run(self, x: Tensor) -> Tensor:
        """What comes out of the last layer, in one native call where that is possible."""
        out = self._run_native(x) if len(self.layers) > 2 and x.device.type == 'cpu' else None
        if out is None:
            out = self.folded(x.dtype)(x)
            for layer in self.layers[2:]:
                out = run_own(layer, out)
        return out

    @not_compiled  # calls what a compiler cannot follow
    def _run_native(self, x: Tensor) -> Tensor | None:
        native = self.memory.remember(pack_stem, self.layers, x.dtype)
        return None if native is None else native.run(x)

    def made(self) -> dict:
        """All that was made of the layers; whoever keeps it keeps it from being freed."""
        return self.memory.made_of(self.layers)


# The methods that decide which layers follow each other.
FORWARDS = ('forward', '_forward_impl')


class FoldingModule(StandIn):
    """A module such as mmcv's ConvModule, which leaves its norm out on request."""

    def forward(self, x: Tensor, activate: bool = True, norm: bool = True) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H', W')."""
        if not (norm and activate):
            x = x.view_as(x)
            x._norm_left_out = True  # type: ignore[attr-defined]
        return run_own(self, x, activate=activate, norm=norm)


class FoldingConv(StandIn):
    """A convolution that does the work of the layers after it, too, and marks what comes out."""

    @property
    def fold(self) -> Fold:
        """The layers whose work it does."""
        return self.__dict__['_fold']

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H', W')."""
        fold = self.__dict__.get('_fold')  # gone where a bound method outlives the optimized model
        if torch.compiler.is_dynamo_compiling():  # which fuses layers by itself
            return run_own(self, x, *args, **kwargs)
        if fold is None or getattr(x, '_norm_left_out', False):
            return run_own(self, x, *args, **kwargs)
        out = fold.export(x) if is_exported() else fold.run(x) if fold.applies(x) else None
        if out is None:
            return run_own(self, x, *args, **kwargs)
        out._folded_by = fold
        return out


class FoldedAway(StandIn):
    """A layer that passes on what its convolution has marked, and computes on anything else."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The input itself, or the layer's output."""
        fold = self.__dict__.get('_fold')
        if torch.compiler.is_dynamo_compiling():
            return run_own(self, x, *args, **kwargs)
        if fold is not None and getattr(x, '_folded_by', None) is fold:
            return x
        return run_own(self, x, *args, **kwargs)


def _why_not(layers: nn.ModuleList, dtype: torch.dtype) -> str | None:
    """The reason why layers must run one by one; to be remembered."""
    if any(is_watched(layer) for layer in layers):
        return 'a hook or another forward is on one of them'
    conv, norm, *rest = layers
    reasons = [why_not_foldable_layer(conv, norm)]
    reasons += [_why_not_rest(layer) for layer in rest]
    return next((reason for reason in reasons if reason), None)


def _why_not_rest(layer: nn.Module) -> str | None:
    if isinstance(layer, nn.ReLU | nn.ReLU6):
        return why_not_act(layer)
    return why_not_plain(layer, nn.ReLU, nn.MaxPool2d, nn.Identity)


def _fold(layers: nn.ModuleList, dtype: torch.dtype) -> FoldedConv:
    conv = cast(nn.Conv2d, layers[0])
    return fold_conv(conv, layers[1], dtype, torch.preserve_format)


def _fold_channels_last(layers: nn.ModuleList, dtype: torch.dtype) -> FoldedConv:
    return fold_conv(cast(nn.Conv2d, layers[0]), layers[1], dtype, torch.channels_last)


def fold_layers(
    parent: nn.Module, names: Sequence[str], memory_format: torch.memory_format
) -> None:
    """Let the first of some children do the work of all, whenever nobody looks."""
    fold = Fold(parent, names, memory_format)
    stand_in(fold.layers[0], FoldingConv, _fold=fold)
    for layer in list(fold.layers)[1:]:
        stand_in(layer, FoldedAway, _fold=fold)


def fold_stem(backbone: DynamicBackbone) -> None:
    """Let a backbone's first convolution do what comes before the first block, if it is plain.

    A forward that a user wrote may do anything between the layers: then they stay as they are.
    """
    layers = [backbone._modules.get(name) for name in backbone.stem_names]
    if not layers or None in layers or not runs_as_shipped(backbone, *FORWARDS):
        return
    modules = cast(list[nn.Module], layers)
    if not _why_not(nn.ModuleList(modules), torch.float32):
        fold_layers(backbone, backbone.stem_names, torch.channels_last)


def fold_conv_module(module: nn.Module) -> None:
    """Let the convolution of mmcv's ConvModule do the work of its norm and activation, if plain."""
    layers = [module._modules.get(name) for name in CONV_MODULE]
    order = getattr(module, 'order', None)
    if None in layers or order != ('conv', 'norm', 'act') or not runs_as_shipped(module, 'forward'):
        return
    if not _why_not(nn.ModuleList(cast(list[nn.Module], layers)), torch.float32):
        fold_layers(module, CONV_MODULE, torch.channels_last)
        stand_in(module, FoldingModule)


CONV_MODULE = ('conv', 'bn', 'activate')


def fold_norms(parent: nn.Module, memory_format: torch.memory_format) -> None:
    """Fold each batch norm that directly follows its convolution, by order and by name."""
    if not runs_as_shipped(parent, *FORWARDS):
        return
    children = list(parent.named_children())
    for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
        if isinstance(conv, StandIn) or not isinstance(norm, _BatchNorm):
            continue
        belongs = inherits(parent, nn.Sequential) or norm_name == conv_name.replace('conv', 'bn')
        # mmcv's ConvModule can put them in another order than it registers them.
        usual = tuple(getattr(parent, 'order', ('conv', 'norm')))[:2] == ('conv', 'norm')
        if belongs and usual and inherits(conv, nn.Conv2d) and inherits(norm, NORMS[0]):
            fold_layers(parent, (conv_name, norm_name), memory_format)
            if 'norm' in signature(parent.forward).parameters:
                stand_in(parent, FoldingModule)
