"""Folding of a residual block's batch norms into its convolutions, kept until parameters change.

Sec. 3.4: "general optimization methods like fusing activation functions and batch normalization
layers into convolution layers". Every sparse executor starts from here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast
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
class FoldedGate:
    """The two 1×1 convolutions of squeeze-and-excitation, in single precision or better.

    Attributes:
        squeeze: Followed by a ReLU.
        excite: Followed by a sigmoid.
    """

    squeeze: FoldedConv
    excite: FoldedConv

    def __call__(self, means: Tensor) -> Tensor:
        """What to scale the channels by, given their means: (N, C) -> (N, C), in (0, 1)."""
        linear = nn.functional.linear
        hidden = linear(means, self.squeeze.weight.flatten(1), self.squeeze.bias).relu_()
        return linear(hidden, self.excite.weight.flatten(1), self.excite.bias).sigmoid_()


@dataclass(frozen=True)
class FoldedBlock:
    """A residual block as plain convolutions with a ReLU after each one.

    Attributes:
        convs: The residual branch; no ReLU after the last one, it follows the addition.
        gate: Squeeze-and-excitation before the last convolution, None where there is none.
        shortcut: Convolution of the shortcut, None where the shortcut is the identity.
        pool: Pooling before ``shortcut`` (``avg_down`` in OpenMMLab), None where there is none.
    """

    convs: tuple[FoldedConv, ...]
    gate: FoldedGate | None
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
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = (variance.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.detach()
        bias = (bias - mean) * scale
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
    convs = tuple(fold_conv(conv, norm, dtype) for conv, norm in block.branch_layers())
    gate = None
    if block.gate_convs:
        # A rounding of the gate would be one of all pixels.
        exact = torch.promote_types(dtype, torch.float32)
        gate = FoldedGate(*(fold_conv(conv, nn.Identity(), exact) for conv in block.gate_convs))
    if block.downsample is None:
        return FoldedBlock(convs, gate, shortcut=None, pool=None)
    *pool, conv, norm = block.downsample.children()
    shortcut = fold_conv(cast(nn.Conv2d, conv), norm, dtype)
    return FoldedBlock(convs, gate, shortcut, pool[0] if pool else None)


def why_not_foldable(block: 'DynamicBlock', dtype: torch.dtype) -> str | None:
    """The reason why a block cannot be folded, None if it can; to be asked by :func:`remember`."""
    if dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        return f'its features are {dtype}'

    if not block.plain_branch:
        return f'the branch of {type(block).__name__} is more than its convolutions'
    if type(block.relu) is not nn.ReLU:
        return f'its activation is {type(block.relu).__name__}, not ReLU'
    layers = list(block.branch_layers())
    if block.gate_convs and len(layers) < 3:
        return 'its squeeze-and-excitation is not in a bottleneck'
    layers += [(conv, nn.Identity()) for conv in block.gate_convs]
    if block.downsample is not None:
        *pool, conv, norm = block.downsample.children()
        if len(pool) > 1 or not isinstance(conv, nn.Conv2d):
            return 'its shortcut is not [pooling,] convolution, norm'
        layers.append((conv, norm))
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


@dataclass
class _Memory:
    """What was made of one block, and of which parameters."""

    slots: '_Slots'
    state: list | None
    made: dict


_memories: WeakKeyDictionary[nn.Module, _Memory] = WeakKeyDictionary()


@torch.compiler.disable  # looks at addresses, which a compiler cannot follow
def remember(
    make: Callable[[nn.Module, torch.dtype], Made],
    block: nn.Module,
    dtype: torch.dtype,
    checked: bool = False,
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
        checked: Whether this forward has already asked for something made of this block, so that
            looking at its parameters again can be spared.
    """
    memory = _memories.get(block)
    if memory is None or not (checked or memory.slots.state() == memory.state):
        slots = _Slots(block)
        memory = _memories[block] = _Memory(slots, slots.state(), {})
    if (make, dtype) not in memory.made:
        memory.made[make, dtype] = make(block, dtype)
    return memory.made[make, dtype]


def made_of(block: nn.Module) -> dict:
    """All that is remembered of a block; whoever keeps it keeps it from being freed."""
    memory = _memories.get(block)
    return {} if memory is None else memory.made


def forget(block: nn.Module) -> None:
    """Drop everything that was made of a block's parameters."""
    _memories.pop(block, None)


Slots = list[tuple[dict, str]]


def slots_of(block: nn.Module) -> tuple[Slots, Slots]:
    """Where a block keeps what folding reads: (dict, key) of its tensors and of its submodules."""
    tensors, modules = [], []
    for module in block.modules():
        for owner in (module._parameters, module._buffers):
            tensors += [(owner, key) for key in owner if owner[key] is not None]
        modules += [(module._modules, key) for key, m in module._modules.items() if m]
    return tensors, modules


class _Slots:
    """What folding a block reads, and how to see that it has changed."""

    def __init__(self, block: nn.Module) -> None:
        self.tensors, self.modules = slots_of(block)
        self.versioned = not any(owner[key].is_inference() for owner, key in self.tensors)

    def state(self) -> list | None:
        """What changes when the content of a slot does; quick, it is asked for every forward."""
        tensors: list[Any] = [owner.get(key) for owner, key in self.tensors]
        modules: list[Any] = [owner.get(key) for owner, key in self.modules]
        state = [*map(id, tensors), *map(id, modules)]
        if id(None) in state:  # something was removed
            return None
        state += map(Tensor.data_ptr, tensors)
        state += [module.training for module in modules]
        if self.versioned:
            state += [tensor._version for tensor in tensors]
        return state
