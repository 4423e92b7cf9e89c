"""AdaViT's loss: the share of each policy's decisions to compute is pulled to a target."""

from torch import Tensor


def usage_loss(usage: Tensor, target: float, squared: bool = False) -> Tensor:
    """The distance abs(u − γ), or (u − γ)².

    Args:
        usage: u, the mean of a policy's decisions over images and blocks, a scalar.
        target: γ.
        squared: Whether the difference is squared.
    """
    difference = usage - target
    return difference**2 if squared else difference.abs()
