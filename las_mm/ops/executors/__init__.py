"""Ways to execute a dynamic block: same inputs, same outputs, proven equal.

An executor is a callable ``(block, x) -> (out, mask)``: the block's output (N, C', H', W') and its
coarse mask (N, 1, ceil(H'/S), ceil(W'/S)). ``dense`` is the reference and the only one that
trains; the others run in inference without gradients and are chosen by name.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from .dense import execute_dense

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock

Executor = Callable[['DynamicBlock', Tensor], tuple[Tensor, Tensor]]

EXECUTORS: dict[str, Executor] = {'dense': execute_dense}


def check_executor(name: str) -> str:
    """Return ``name`` if it is that of an executor or ``auto``.

    Raises:
        ValueError: If it is not.
    """
    allowed = [*EXECUTORS, 'auto']
    if name not in allowed:
        raise ValueError(f'executor: got {name!r}; choose one of {", ".join(allowed)}')
    return name


def choose_executor(name: str, block: 'DynamicBlock', x: Tensor) -> Executor:
    """The executor to run ``block`` on ``x``; ``auto`` takes the fastest one that supports it."""
    return EXECUTORS['dense' if name == 'auto' else name]


__all__ = ['EXECUTORS', 'Executor', 'check_executor', 'choose_executor', 'execute_dense']
