"""Ways to execute a dynamic block: same inputs, same outputs, proven equal.

An executor is a callable ``(block, x, private) -> (out, mask)``: the block's output (N, C', H', W')
and its coarse mask (N, 1, ceil(H'/S), ceil(W'/S)), None if the block is static. It may write its
output over ``x`` if that is ``private``. ``dense`` is the reference and the only one that trains;
the others run in inference without gradients. Each comes with a ``why_not``, the reason for which
it cannot run a block on an input, and the name of the executor that runs instead.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from torch import Tensor

from .cpu import execute_native, why_not_native
from .dense import execute_dense
from .torch_rows import execute_rows, why_not_rows
from .triton import execute_triton, why_not_triton

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock

Executor = Callable[['DynamicBlock', Tensor, bool], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Choice:
    """An executor and what else there is to know to choose it.

    Attributes:
        execute: The executor.
        why_not: (block, x) -> the reason why it cannot run the block on x, None if it can.
        fallback: Name of the executor that runs where it cannot.
    """

    execute: Executor
    why_not: Callable[['DynamicBlock', Tensor], str | None]
    fallback: str


EXECUTORS: dict[str, Choice] = {
    'dense': Choice(execute_dense, lambda block, x: None, fallback='dense'),
    'torch': Choice(execute_rows, why_not_rows, fallback='dense'),
    'cpu': Choice(execute_native, why_not_native, fallback='torch'),
    'triton': Choice(execute_triton, why_not_triton, fallback='torch'),
}

# The fastest executor of each type of device; ``dense`` on any other.
AUTO = {'cpu': 'cpu', 'cuda': 'triton'}


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
    """The executor to run ``block`` on ``x``.

    Args:
        name: A key of ``EXECUTORS``, or ``auto`` for the fastest one on the device of ``x``. Where
            it cannot run the block its fallback does, and the log says so once.
        block: The block.
        x: Its input.
    """
    if name == 'auto':
        name = AUTO.get(x.device.type, 'dense')
    while reason := EXECUTORS[name].why_not(block, x):
        fallback = EXECUTORS[name].fallback
        _log_once(f'executor: {fallback!r} instead of {name!r} for some blocks: {reason}')
        name = fallback
    return EXECUTORS[name].execute


@cache
def _log_once(message: str) -> None:
    logging.getLogger('las_mm').warning(message)


__all__ = ['AUTO', 'EXECUTORS', 'Choice', 'Executor', 'check_executor', 'choose_executor']
