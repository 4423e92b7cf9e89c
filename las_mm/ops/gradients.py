"""Who may leave PyTorch's own path: nobody while gradients are wanted or a program is recorded."""

import torch
from torch import Tensor, nn


def wants_gradients(module: nn.Module, x: Tensor) -> bool:
    """Whether a forward of the module on ``x`` must be differentiable."""
    if not torch.is_grad_enabled():
        return False
    return x.requires_grad or any(parameter.requires_grad for parameter in module.parameters())


def is_recorded() -> bool:
    """Whether the forward is being recorded by ``torch.jit.trace`` or ``torch.export``.

    What is recorded runs again with other images, and knows PyTorch's operators alone.
    """
    # Within torch.compile, PyTorch says that it exports.
    exported = torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling()
    return torch.jit.is_tracing() or exported
