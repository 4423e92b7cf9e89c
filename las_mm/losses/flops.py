"""L_FLOPs: the network's share of MACs is pulled to a target (Sec. 3.5)."""

from torch import Tensor


def flops_loss(ratio: Tensor, target: float) -> Tensor:
    """L_FLOPs = (F_dyn / F_stat − t)².

    Args:
        ratio: F_dyn / F_stat, a scalar that is differentiable in the activation rates.
        target: t.
    """
    return (ratio - target) ** 2
