"""Folding of a residual block's batch norms into its convolutions, kept until parameters change.

Sec. 3.4: "general optimization methods like fusing activation functions and batch normalization
layers into convolution layers". Every sparse executor starts from here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock

Made = TypeVar('Made')


@dataclass(frozen=True)
class FoldedConv:
    """A "same"-padded convolution that has swallowed its batch norm.

    Attributes:
        weight: (C_out, C_in / groups, k, k).
        bias: (C_out,).
        stride: Stride, the same in both directions.
        dilation: Dilation, the same in both directions.
        groups: Groups.
    """

    weight: Tensor
    bias: Tensor
    stride: int
    dilation: int
    groups: int

    @property
    def kernel_size(self) -> int:
        """Edge k of the kernel."""
        return self.weight.shape[-1]

    @property
    def padding(self) -> int:
        """Zeros on each side of the input."""
        return self.dilation * (self.kernel_size // 2)

    def __call__(self, x: Tensor) -> Tensor:
        """Dense convolution, (N, C_in, H, W) -> (N, C_out, H', W')."""
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return nn.functional.conv2d(x, self.weight, self.bias, *geometry)


@dataclass(frozen=True)
class FoldedBlock:
    """A residual block as plain convolutions with a ReLU after each one.

    Attributes:
        convs: The residual branch; no ReLU after the last one, it follows the addition.
        shortcut: Convolution of the shortcut, None where the shortcut is the identity.
        pool: Pooling before ``shortcut`` (``avg_down`` in OpenMMLab), None where there is none.
    """

    convs: tuple[FoldedConv, ...]
    shortcut: FoldedConv | None
    pool: nn.Module | None

    def identity(self, x: Tensor) -> Tensor:
        """The shortcut, dense: (N, C, H, W) -> (N, C', H', W'); ``x`` itself if it has none."""
        x = x if self.pool is None else self.pool(x)
        return x if self.shortcut is None else self.shortcut(x)


def fold_conv(
    conv: nn.Conv2d,
    norm: nn.Module,
    dtype: torch.dtype,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> FoldedConv:
    """Fold a batch norm in eval mode (or an ``nn.Identity``) into the convolution before it.

    The scale is computed in double precision, the product in single: one rounding a weight.
    """
    weight = conv.weight.detach().float()
    bias = torch.zeros(weight.shape[0], device=weight.device, dtype=torch.float64)
    if conv.bias is not None:
        bias += conv.bias.detach()
    if isinstance(norm, _BatchNorm):
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.detach()
        bias = (bias - norm.running_mean) * scale
        if norm.bias is not None:
            bias = bias + norm.bias.detach()
        weight = weight * scale.float().view(-1, 1, 1, 1)
    weight = weight.to(dtype, memory_format=memory_format)
    return FoldedConv(weight, bias.to(dtype), conv.stride[0], conv.dilation[0], conv.groups)


def fold_block(block: 'DynamicBlock', dtype: torch.dtype) -> FoldedBlock:
    """Fold a block for which :func:`why_not_foldable` is None.

    Args:
        block: The block.
        dtype: Of the folded weights: that of the features the block will run on.
    """
    *pool, conv, norm = [None, None] if block.downsample is None else block.downsample.children()
    return FoldedBlock(
        convs=tuple(fold_conv(*layer, dtype) for layer in block.branch_layers()),
        shortcut=None if conv is None else fold_conv(conv, norm, dtype),
        pool=pool[0] if pool else None,
    )


def why_not_foldable(block: 'DynamicBlock', dtype: torch.dtype) -> str | None:
    """The reason why a block cannot be folded, None if it can; to be asked by :func:`remember`."""
    if dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        return f'its features are {dtype}'

    if not block.plain_branch:
        return f'the branch of {type(block).__name__} is more than its convolutions'
    if type(block.relu) is not nn.ReLU:
        return f'its activation is {type(block.relu).__name__}, not ReLU'
    shortcut = [] if block.downsample is None else list(block.downsample.children())
    *pool, conv, norm = shortcut or (None, None)
    if shortcut and (len(pool) > 1 or not isinstance(conv, nn.Conv2d)):
        return 'its shortcut is not [pooling,] convolution, norm'
    layers = [*block.branch_layers(), *([(conv, norm)] if shortcut else [])]
    reasons = (why_not_foldable_layer(*layer) for layer in layers)
    return next((reason for reason in reasons if reason), None)


def why_not_foldable_layer(conv: nn.Module, norm: nn.Module) -> str | None:
    """The reason why a convolution and the norm after it cannot be folded, None if they can."""
    if not isinstance(conv, nn.Conv2d) or conv.padding_mode != 'zeros':
        return f'{type(conv).__name__} is not a plain, zero-padded convolution'
    same = tuple(d * (k // 2) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    square = all(len(set(pair)) == 1 for pair in (conv.kernel_size, conv.stride, conv.dilation))
    if not square or conv.kernel_size[0] % 2 == 0 or tuple(conv.padding) != same:
        return f'{conv} is not square, odd and "same"-padded'
    if isinstance(norm, nn.Identity):
        return None
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
        return f'its norm is {type(norm).__name__}, not a batch norm with running statistics'
    return 'a batch norm is in training mode' if norm.training else None


_remembered: WeakKeyDictionary = WeakKeyDictionary()


def remember(
    make: Callable[['DynamicBlock', torch.dtype], Made],
    block: 'DynamicBlock',
    dtype: torch.dtype,
) -> Made:
    """``make(block, dtype)``, made anew only when a parameter of the block has changed.

    What was made is kept outside of the block, so that pickling, deep copies and state dicts know
    nothing of it. Changes are seen by addresses and version counters. Writing through ``.data``
    escapes both (mmengine's EMA does so between training and validation), which is why a block
    also calls :func:`forget` whenever it trains.

    Args:
        make: A module-level function of a block and the dtype of its features.
        block: The block.
        dtype: Of the features.
    """
    known = _remembered.get(block)
    if known is None or known[1] != list(map(_state, known[0])):
        slots = list(_slots(block))
        known = _remembered[block] = slots, list(map(_state, slots)), {}
    made = known[2]
    if (make, dtype) not in made:
        made[make, dtype] = make(block, dtype)
    return made[make, dtype]


def forget(block: 'DynamicBlock') -> None:
    """Drop everything that was made of a block's parameters."""
    _remembered.pop(block, None)


def _slots(block: nn.Module) -> Iterator[tuple[dict, str]]:
    """Where the block keeps what folding reads: (dict, key) of every tensor and submodule."""
    for module in block.modules():
        for owner in (module._parameters, module._buffers, module._modules):
            yield from ((owner, key) for key in owner if owner[key] is not None)


def _state(slot: tuple[dict, str]) -> tuple:
    """Something that changes whenever the content of the slot does."""
    value = slot[0].get(slot[1])
    if isinstance(value, Tensor):
        return value.data_ptr(), 0 if value.is_inference() else value._version
    return id(value), getattr(value, 'training', None)
