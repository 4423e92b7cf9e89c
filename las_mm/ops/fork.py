"""A block's input goes three ways: to the branch, to the shortcut and, pooled, to the masker."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .native.training import native_training


def fork(x: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """The input for the branch, that for the shortcut, and x averaged over windows.

    The three gradients of x are then added in one pass, where autograd would spread the pooled
    one over a whole feature first. Only the C++ extension does so: where it cannot, the inputs are
    x, and the average is None.

    Args:
        x: (N, C, H, W).
        window: Edge of the masker's windows in pixels of x.

    Returns:
        (N, C, H, W), equal to x, twice, and (N, C, ceil(H / window), ceil(W / window)).
    """
    if window > 1 and (native := native_training(x)):
        return _Fork.apply(x, window, native)
    return x, x, None


class _Fork(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: int, native: Any) -> tuple[Tensor, Tensor, Tensor]:
        ctx.window, ctx.native = window, native
        return x.view_as(x), x.view_as(x), native.fork_forward(x, window)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        grads = tuple(grad.contiguous() for grad in grads)
        return ctx.native.fork_backward(*grads, ctx.window), None, None
