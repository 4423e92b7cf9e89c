"""A number for each dynamic block, by which an operator of a compiled graph finds its block."""

from itertools import count
from weakref import WeakValueDictionary

from torch import nn

_blocks: WeakValueDictionary[int, nn.Module] = WeakValueDictionary()
_next = count(1)


def number_block(block: nn.Module) -> int:
    """Give a block a number of its own for the rest of the process; copies need another."""
    number = next(_next)
    _blocks[number] = block
    return number


def numbered_block(number: int) -> nn.Module:
    """The block with a number.

    Raises:
        KeyError: If it is no more.
    """
    return _blocks[number]
