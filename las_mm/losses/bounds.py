"""L_bounds: every block stays near the target early in training (Sec. 3.5, after DynConv)."""

from math import cos, pi

from torch import Tensor


def open_bounds(progress: float, target: float, duration: float = 0.33) -> tuple[float, float]:
    """Lower and upper bound of a block's rate: both t at the start, 0 and 1 after ``duration``.

    With a = cos²(min(1, progress / duration)·π/2): lower = a·t, upper = 1 − a·(1 − t).

    Args:
        progress: Share of training done, in [0, 1].
        target: t.
        duration: Share of training over which the bounds open.
    """
    closed = cos(min(1.0, progress / duration) * pi / 2) ** 2
    return closed * target, 1 - closed * (1 - target)


def bounds_loss(rates: Tensor, lower: float, upper: float) -> Tensor:
    """L_bounds: mean over blocks of max(0, q − upper)² + max(0, lower − q)².

    Args:
        rates: (blocks,) the bounded quantity q of each block, its activation rate in the paper.
        lower: Lower bound.
        upper: Upper bound.
    """
    excess = (rates - upper).clamp(min=0) ** 2 + (lower - rates).clamp(min=0) ** 2
    return excess.mean()


def start_rate(target: float, axis: str, axes: int) -> float:
    """The rate of an axis that, if all blocks have it, makes its part of the target.

    Each of several axes takes the same part, t^(1/axes); channels enter the largest convolution
    with their square, and so their rate is the root of it.

    Args:
        target: t.
        axis: ``'sites'`` or ``'channels'``.
        axes: How many axes are decided on.
    """
    part = target ** (1 / axes)
    return part**0.5 if axis == 'channels' else part
