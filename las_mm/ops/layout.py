"""Features from the memory that executors compute in to the one that other operators expect."""

import torch
from torch import Tensor

from .gradients import is_recorded
from .native.build import load_native


def to_contiguous(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """``x.contiguous()``, on a CPU by native code where it can, a third of the time of PyTorch's.

    Args:
        x: Of any size and kind.
        dtype: Which it is to have; its own by default.

    Returns:
        Itself if it is contiguous and of that dtype, else a copy.
    """
    widen = (x.dtype, dtype) == (torch.bfloat16, torch.float32)
    if not (torch.compiler.is_compiling() or is_recorded()) and is_plain_channels_last(x):
        native, _ = load_native()
        if native is not None:
            x = native.to_contiguous(x, widen)
    return x.contiguous() if dtype is None else x.contiguous().to(dtype)


def is_plain_channels_last(x: Tensor) -> bool:
    """Whether native code may copy it: no other kind of tensor, and nothing that records."""
    return (
        type(x) is Tensor
        and x.device.type == 'cpu'
        and x.layout is torch.strided
        and is_channels_last(x)
        and x.is_floating_point()
        and x.element_size() in (2, 4)
        and not (x.requires_grad and torch.is_grad_enabled())
        and not x.is_neg()
    )


def is_channels_last(x: Tensor) -> bool:
    """Whether a tensor is in channels-last memory and in no other."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return last and not x.is_contiguous()
