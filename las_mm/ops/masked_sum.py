"""relu(M ⊙ norm(x) + identity), the end of a dynamic block, for what a static block's costs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.module import _has_any_global_hook


def masked_sum_relu(x: Tensor, norm: nn.Module, pixels: Tensor, identity: Tensor) -> Tensor:
    """The block's output, with a gradient for the mask.

    With the normalised branch b = norm(x), the output y = relu(M ⊙ b + identity) and a gradient g
    of y that is zero where y is, the gradients are

        M ⊙ g for b,    Σ_c g·b for M,    g for the identity.

    A static block forgets b, which its norm makes of x. So does this function where norm is a plain
    batch norm, b = s·x + t with an s and a t for each channel: Σ_c g·b = Σ_c s·g·x + Σ_c t·g.

    Args:
        x: (N, C, H, W) output of the branch's last convolution.
        norm: The norm after it; called as a module if it is anything but a plain batch norm.
        pixels: (N, 1, H, W) mask M of the active pixels.
        identity: (N, C, H, W) output of the shortcut.

    Returns:
        (N, C, H, W).
    """
    if x.dtype == identity.dtype and x.numel() > x.shape[1] and is_plain(norm):
        pixels = pixels.to(x.dtype)
        return _NormMaskedSumReLU.apply(x, norm.weight, norm.bias, pixels, identity, norm)
    branch = norm(x)
    pixels = pixels.to(branch.dtype)
    if branch.dtype != identity.dtype:
        return torch.relu(branch * pixels + identity)
    return _MaskedSumReLU.apply(branch, pixels, identity)


def is_plain(norm: nn.Module) -> bool:
    """Whether a norm is a batch norm as most are, and nobody would notice if it were not called."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.affine
        and norm.track_running_stats
        and 'forward' not in norm.__dict__
        and not (norm._forward_hooks or norm._forward_pre_hooks)
        and not (norm._backward_hooks or norm._backward_pre_hooks)
        and not _has_any_global_hook()
    )


def count_batch(norm: nn.BatchNorm2d) -> float:
    """What ``nn.BatchNorm2d`` does before it normalises: the share of the running statistics that
    comes from this batch, which it counts in training."""
    counter = norm.num_batches_tracked
    if norm.training and counter is not None:
        counter.add_(1)
        if norm.momentum is None:  # a cumulative average
            return 1 / float(counter)
    return norm.momentum or 0.0


class _MaskedSumReLU(torch.autograd.Function):
    """Of any norm's output: one pass forward where autograd takes three; keeps branch and output."""

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


class _NormMaskedSumReLU(torch.autograd.Function):
    """With a plain batch norm: keeps its input and the output, as a static block does."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        pixels: Tensor,
        identity: Tensor,
        norm: nn.BatchNorm2d,
    ) -> Tensor:
        running = norm.running_mean, norm.running_var
        branch, mean, invstd = torch.native_batch_norm(
            x, weight, bias, *running, norm.training, count_batch(norm), norm.eps
        )
        if norm.training:
            running = None, None  # the next forward may move them before the backward
        else:
            mean, invstd = norm.running_mean, (norm.running_var + norm.eps).rsqrt()
        out = torch.addcmul(identity, branch, pixels, out=branch).relu_()
        ctx.training, ctx.eps = norm.training, norm.eps
        ctx.save_for_backward(x, weight, bias, pixels, out, mean, invstd, *running)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, pixels, out, mean, invstd, *running = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, out, 0)
        *needs_norm, needs_pixels, needs_identity, _ = ctx.needs_input_grad
        of_norm, of_pixels = (None, None, None), None
        if any(needs_norm):
            of_norm = torch.ops.aten.native_batch_norm_backward(
                grad * pixels, x, weight, *running, mean, invstd, ctx.training, ctx.eps, needs_norm
            )
        if needs_pixels:
            scale = weight * invstd
            of_pixels = channel_dot(grad, x, scale, bias - mean * scale)
        return *of_norm, of_pixels, grad if needs_identity else None, None


def channel_dot(
    a: Tensor, b: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
) -> Tensor:
    """Σ_c a·b, or Σ_c a·(scale·b + shift).

    Args:
        a: (N, C, H, W).
        b: (N, C, H, W).
        scale: (C,) or None.
        shift: (C,), None if ``scale`` is.

    Returns:
        (N, 1, H, W), in the dtype of ``a``.
    """
    if a.device.type != 'cpu':
        return _channel_dot(a, b, scale, shift)
    # Image by image, so that the products stay in the cache and need no memory of their own.
    return torch.stack([_channel_dot(x, y, scale, shift) for x, y in zip(a, b, strict=True)])


def _channel_dot(a: Tensor, b: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """:func:`channel_dot` of a batch or of an image."""
    if scale is None or shift is None:
        return (a * b).sum(-3, keepdim=True)
    # In the dtype of scale, which under autocast is more precise: the two sums may cancel.
    fine = a.to(scale.dtype)
    dot = scale @ (fine * b).flatten(-2) + shift @ fine.flatten(-2)
    return dot.unflatten(-1, a.shape[-2:]).unsqueeze(-3).to(a.dtype)
