"""relu(M ⊙ branch + identity), the end of a dynamic block, in as few passes as a static block's."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def masked_sum_relu(branch: Tensor, pixels: Tensor, identity: Tensor) -> Tensor:
    """The block's output, with a gradient for the mask.

    Args:
        branch: (N, C, H, W) output of the residual branch.
        pixels: (N, 1, H, W) mask of the active pixels.
        identity: (N, C, H, W) output of the shortcut.

    Returns:
        (N, C, H, W).
    """
    pixels = pixels.to(branch.dtype)
    if branch.dtype != identity.dtype:
        return torch.relu(branch * pixels + identity)
    return _MaskedSumReLU.apply(branch, pixels, identity)


class _MaskedSumReLU(torch.autograd.Function):
    """One pass forward where autograd takes three, and none of its intermediate results is kept."""

    @staticmethod
    def forward(ctx: Any, branch: Tensor, pixels: Tensor, identity: Tensor) -> Tensor:
        out = torch.addcmul(identity, branch, pixels).relu_()
        ctx.save_for_backward(branch, pixels, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        branch, pixels, out = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, out, 0)
        needs_branch, needs_pixels, needs_identity = ctx.needs_input_grad
        return (
            grad * pixels if needs_branch else None,
            channel_dot(grad, branch) if needs_pixels else None,
            grad if needs_identity else None,
        )


def channel_dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ_c a·b: (N, C, H, W) twice -> (N, 1, H, W)."""
    if a.device.type != 'cpu':
        return (a * b).sum(1, keepdim=True)
    # Image by image, so that the products stay in the cache and need no memory of their own.
    return torch.stack([(x * y).sum(0, keepdim=True) for x, y in zip(a, b, strict=True)])
