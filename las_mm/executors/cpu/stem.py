"""What lies outside of blocks, in one C++ call: convolution, norm, ReLU and perhaps max pooling."""

from types import ModuleType
from typing import Any, cast

import torch
from torch import nn

from las_mm.executors.folding import (
    FoldedConv,
    fold_conv,
    limit_of,
    why_not_act,
    why_not_foldable_layer,
)
from las_mm.ops.native.build import load_native
from las_mm.ops.plain import inherits

from .packing import plain, why_no_kernels

LARGEST_KERNEL = 7
# Below, a row of pixels under the kernel is a row of the matrix product.
FEATURE_CHANNELS = 16


def pack_stem(layers: nn.ModuleList, dtype: torch.dtype, isa: str = '') -> Any | None:
    """The layers in the extension's format, with a method ``run(x)``; None if it cannot run them.

    Args:
        layers: Convolution, norm, activation and, if there is some, pooling, in eval mode.
        dtype: Of the images, torch.float32 or torch.bfloat16.
        isa: Instruction set, as in :func:`~las_mm.executors.cpu.packing.pack_block`.
    """
    packable = parts_of_stem(layers, dtype)
    if packable is None:
        return None
    folded, window, limit, alone = packable
    native = cast(ModuleType, load_native()[0])
    exact = dtype == torch.float32
    if alone:
        kind = native.Float32Conv if exact else native.BFloat16Conv
        return kind(plain(folded, dtype), limit, isa)
    kind = native.Float32Stem if exact else native.BFloat16Stem
    return kind(plain(folded, dtype), window, isa, limit)


def parts_of_stem(
    layers: nn.ModuleList, dtype: torch.dtype
) -> tuple[FoldedConv, tuple[int, int, int], float | None, bool] | None:
    """The layers of :func:`pack_stem` as the extension takes them; None if it cannot run them.

    Returns:
        The folded convolution; kernel, stride and padding of the pooling; where the activation
        ends; and whether it is a convolution of features that stands alone.
    """
    conv, norm, act, *pool = layers
    window = _window(pool[0]) if pool else (1, 1, 0)
    if why_not_foldable_layer(conv, norm) or why_not_act(act) or window is None:
        return None
    folded = fold_conv(cast(nn.Conv2d, conv), norm, torch.float32)
    small = max(folded.kernel_size, window[0]) <= LARGEST_KERNEL
    if folded.groups > 1 or folded.dilation > 1 or not small or why_no_kernels(dtype):
        return None
    channels = folded.weight.shape[1]
    paired = dtype == torch.float32 or channels % 2 == 0
    alone = channels >= FEATURE_CHANNELS and not pool and paired
    return folded, window, limit_of(act), alone


def _window(pool: nn.Module) -> tuple[int, int, int] | None:
    """Kernel, stride and padding of plain max pooling, None for any other layer."""
    if not inherits(pool, nn.MaxPool2d):
        return None
    pool = cast(nn.MaxPool2d, pool)
    if pool.ceil_mode or pool.return_indices:
        return None
    sizes = [pool.kernel_size, pool.stride, pool.padding, pool.dilation]
    kernel, stride, padding, dilation = (
        size if isinstance(size, tuple) else (size, size) for size in sizes
    )
    if any(len(set(pair)) > 1 for pair in (kernel, stride, padding)) or dilation != (1, 1):
        return None
    return kernel[0], stride[0], padding[0]
