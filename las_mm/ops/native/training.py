"""Whether native code or PyTorch computes a part of a training step."""

import logging
from functools import cache
from types import ModuleType
from typing import TypeGuard

import torch
from torch import Tensor, nn

from .build import load_native


def native_training(*tensors: Tensor | None) -> ModuleType | None:
    """The C++ extension, if it can train on all of these tensors; None where PyTorch is to.

    It takes plain contiguous tensors of single precision on the CPU. Where it is not installed, the
    first of them builds it.
    """
    if torch.compiler.is_compiling() or not all(map(is_plain_fp32, tensors)):
        return None
    return find_extension()


def is_plain_fp32(tensor: Tensor | None) -> TypeGuard[Tensor]:
    """Whether a tensor is contiguous memory of single precision, and no other kind of tensor."""
    return (
        isinstance(tensor, Tensor)
        and type(tensor) in (Tensor, nn.Parameter)
        and tensor.device.type == 'cpu'
        and tensor.dtype == torch.float32
        and tensor.is_contiguous()
    )


@cache
def find_extension() -> ModuleType | None:
    """The extension; if there is none, the log says why."""
    native, reason = load_native()
    if native is None:
        logging.getLogger('las_mm').warning(f'training: PyTorch alone, which is slower: {reason}')
    return native
