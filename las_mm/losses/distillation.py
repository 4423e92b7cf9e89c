"""Distillation from the static network (last term of Eq. 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 4.0,
    sigmoid: bool = False,
    reverse: bool = False,
) -> Tensor:
    """T²·KL(σ(y'/T) ‖ σ(y/T)), averaged over rows.

    This is the usual direction, that of the authors' code and of the numbers that they published;
    Eq. 2 as printed is the reverse, KL(σ(y/T) ‖ σ(y'/T)).

    Args:
        student: (rows, classes) logits y of the dynamic network.
        teacher: (rows, classes) logits y' of the static network.
        temperature: T.
        sigmoid: Whether each class is a Bernoulli variable of its own, as in RetinaNet; the
            divergences of the classes add up.
        reverse: Whether the divergence is that of Eq. 2 as printed.
    """
    if sigmoid:
        student, teacher = _with_complement(student), _with_complement(teacher)
    # In double precision: of logits that nearly agree, single would leave nothing but roundings.
    log_student = F.log_softmax(student.double() / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.double() / temperature, dim=-1)
    # F.kl_div(q, p) is KL(p ‖ q).
    pair = (log_teacher, log_student) if reverse else (log_student, log_teacher)
    divergence = F.kl_div(*pair, reduction='none', log_target=True)
    rows = divergence.flatten(1).sum(1)
    return temperature**2 * (rows.mean() if len(rows) else rows.sum()).float()


def _with_complement(logits: Tensor) -> Tensor:
    """Bernoulli logits (rows, classes) as softmax logits (rows, classes, 2)."""
    return torch.stack([logits, torch.zeros_like(logits)], dim=-1)
