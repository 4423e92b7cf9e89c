"""Who may leave PyTorch's own path: nobody while gradients are wanted or a program is recorded."""

import torch
from torch import Tensor, nn

from .compiling import constant_when_compiled


def wants_gradients(module: nn.Module, x: Tensor) -> bool:
    """Whether a forward of the module on ``x`` must be differentiable."""
    if not torch.is_grad_enabled():
        return False
    return x.requires_grad or any(parameter.requires_grad for parameter in module.parameters())


def is_recorded() -> bool:
    """Whether the forward is being recorded by ``torch.jit.trace`` or ``torch.export``.

    What is recorded runs again with other images, and knows PyTorch's operators alone.
    """
    return torch.jit.is_tracing() or is_exported() or is_strictly_exported()


def is_exported() -> bool:
    """Whether ``torch.export`` records the forward by running it, as it does by default."""
    # Within torch.compile, PyTorch says that it exports.
    return torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling()


def is_strictly_exported() -> bool:
    """Whether ``torch.export(strict=True)`` records the forward by reading its code."""
    return torch.compiler.is_dynamo_compiling() and _an_export_runs()


def is_compiled() -> bool:
    """Whether ``torch.compile`` reads this code, for a graph that runs along with the weights."""
    return torch.compiler.is_dynamo_compiling() and not _an_export_runs()


@constant_when_compiled
def _an_export_runs() -> bool:
    return bool(getattr(torch.compiler, '_is_exporting_flag', False))
