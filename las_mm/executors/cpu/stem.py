"""What comes before the first block, in one C++ call: convolution, norm, ReLU and max pooling."""

from types import ModuleType
from typing import Any, cast

import torch
from torch import nn

from las_mm.executors.folding import fold_conv, why_not_foldable_layer
from las_mm.ops.native.build import load_native
from las_mm.ops.plain import inherits

from .packing import why_no_kernels

LARGEST_KERNEL = 7


def pack_stem(layers: nn.ModuleList, dtype: torch.dtype, isa: str = '') -> Any | None:
    """The layers in the extension's format, with a method ``run(x)``; None if it cannot run them.

    Args:
        layers: Convolution, norm, activation and, if there is some, pooling, in eval mode.
        dtype: Of the images, torch.float32 or torch.bfloat16.
        isa: Instruction set, as in :func:`~las_mm.executors.cpu.packing.pack_block`.
    """
    conv, norm, relu, *pool = layers
    window = _window(pool[0]) if pool else (1, 1, 0)
    if why_not_foldable_layer(conv, norm) or not inherits(relu, nn.ReLU) or window is None:
        return None
    folded = fold_conv(cast(nn.Conv2d, conv), norm, torch.float32)
    small = max(folded.kernel_size, window[0]) <= LARGEST_KERNEL
    if folded.groups > 1 or folded.dilation > 1 or not small or why_no_kernels(dtype):
        return None
    native = cast(ModuleType, load_native()[0])
    kind = native.Float32Stem if dtype == torch.float32 else native.BFloat16Stem
    return kind((folded.weight, folded.bias, folded.stride, 1, 1), window, isa)


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
