"""relu(M ⊙ norm(x) + identity), the end of a dynamic block, for little more than a static one's."""

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.module import _has_any_global_hook

from .gradients import is_recorded
from .native.training import native_training


def masked_sum_relu(x: Tensor, norm: nn.Module, pixels: Tensor, identity: Tensor) -> Tensor:
    """The block's output, with a gradient for the mask.

    With the branch b = norm(x), the output y = relu(M ⊙ b + identity), and g the gradient of y
    where y > 0, zero elsewhere, the gradients are

        M ⊙ g of b,    Σ_c g·b of M,    g of the identity.

    A static block need not keep b for them, and neither does this one if the norm is a plain batch
    norm: then b = s·x + t with one s and t for each channel, and Σ_c g·b = Σ_c s·g·x + Σ_c t·g.

    Args:
        x: (N, C, H, W) output of the branch's last convolution.
        norm: The norm after it; unless it is a plain batch norm, b is kept.
        pixels: (N, 1, H, W) mask M of the active pixels.
        identity: (N, C, H, W) output of the shortcut.

    Returns:
        (N, C, H, W).
    """
    if is_recorded() or torch.compiler.is_compiling():
        # A compiler fuses what stands here by itself; of the functions below it loses gradients.
        branch = norm(x)
        return torch.relu(identity + branch * pixels.to(branch.dtype))
    if x.dtype == identity.dtype and x.numel() > x.shape[1] and is_plain(norm):
        pixels = pixels.to(x.dtype).contiguous()  # cut patches are a view of whole ones
        return _NormMaskedSumReLU.apply(x, norm.weight, norm.bias, pixels, identity, norm)
    branch = norm(x)  # also where it refuses a single value per channel
    pixels = pixels.to(branch.dtype)
    if branch.dtype != identity.dtype:
        return torch.relu(branch * pixels + identity)
    return _MaskedSumReLU.apply(branch, pixels, identity)


def is_plain(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether a norm is a usual batch norm, and nobody would notice if it were not called."""
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
    """Count a batch as ``nn.BatchNorm2d`` does; returns its weight in the running statistics."""
    counter = norm.num_batches_tracked
    if norm.training and counter is not None:
        counter.add_(1)
        if norm.momentum is None:  # a cumulative average
            return 1 / float(counter)
    return norm.momentum or 0.0


class _MaskedSumReLU(torch.autograd.Function):
    """Any norm's branch; one pass where autograd takes three, whose results are not kept."""

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
            sum_channels(grad, branch) if needs_pixels else None,
            grad if needs_identity else None,
        )


class _NormMaskedSumReLU(torch.autograd.Function):
    """The same after a plain batch norm, of which the branch is a linear function."""

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
        running: Any = norm.running_mean, norm.running_var
        branch, mean, invstd = torch.ops.aten.native_batch_norm(
            x, weight, bias, *running, norm.training, count_batch(norm), norm.eps
        )
        if norm.training:
            running = None, None  # not needed, and another forward may move them
        else:
            mean, invstd = running[0], (running[1] + norm.eps).rsqrt()
        out = torch.addcmul(identity, branch, pixels, out=branch).relu_()
        ctx.save_for_backward(x, weight, bias, pixels, out, mean, invstd, *running)
        ctx.training, ctx.eps = norm.training, norm.eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, running_mean, running_var = ctx.saved_tensors
        if native := native_training(*tensors):  # in two passes over the features
            needs_x = ctx.needs_input_grad[0]
            grads = native.end_backward(grad.contiguous(), *tensors, ctx.training, needs_x)
            return *grads, None
        x, weight, bias, pixels, out, mean, invstd = tensors
        running = running_mean, running_var
        *needs_norm, needs_pixels, needs_identity, _ = ctx.needs_input_grad
        scale = weight * invstd
        shift = bias - mean * scale
        of_identity, of_branch = torch.empty_like(out), torch.empty_like(out)
        dots = []
        for part in image_slices(out):  # three uses of a gradient while it is in the cache
            g = torch.ops.aten.threshold_backward.grad_input(
                grad[part], out[part], 0, grad_input=of_identity[part]
            )
            torch.mul(g, pixels[part], out=of_branch[part])
            if needs_pixels:
                dots.append(channel_dot(g, x[part], scale, shift))
        of_norm: tuple[Tensor | None, ...] = (None, None, None)
        if any(needs_norm):
            of_norm = torch.ops.aten.native_batch_norm_backward(
                of_branch, x, weight, *running, mean, invstd, ctx.training, ctx.eps, needs_norm
            )
        of_pixels = torch.cat(dots) if needs_pixels else None
        return *of_norm, of_pixels, of_identity if needs_identity else None, None


def image_slices(x: Tensor) -> list[slice]:
    """The images of a batch, on a CPU a few at once, so that products of them stay in the cache.

    Args:
        x: (N, C, H, W).
    """
    images = max(1, len(x))
    if x.device.type == 'cpu':
        images = max(1, 2**20 // max(1, x.shape[1:].numel()))
    return [slice(start, start + images) for start in range(0, max(1, len(x)), images)]


def sum_channels(a: Tensor, b: Tensor) -> Tensor:
    """Σ_c a·b: (N, C, H, W) twice -> (N, 1, H, W)."""
    return torch.cat([(a[p] * b[p]).sum(1, keepdim=True) for p in image_slices(a)])


def channel_dot(a: Tensor, b: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Σ_c a·(scale·b + shift): (N, C, H, W) twice, (C,) twice -> (N, 1, H, W) in the dtype of a."""
    # In the precision of scale, more than that of a under autocast: the two sums may cancel.
    fine = a.to(scale.dtype)
    dot = scale @ (fine * b).flatten(2) + shift @ fine.flatten(2)
    return dot.view(len(a), 1, *a.shape[2:]).to(a.dtype)
