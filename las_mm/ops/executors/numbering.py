"""A number for each dynamic block, by which an operator of a compiled graph finds its block."""

from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock

_blocks: WeakValueDictionary = WeakValueDictionary()
_next = count(1)


def number_block(block: 'DynamicBlock') -> int:
    """Give a block a number of its own for the rest of the process; copies need another."""
    number = next(_next)
    _blocks[number] = block
    return number


def numbered_block(number: int) -> 'DynamicBlock':
    """The block with a number.

    Raises:
        KeyError: If it is no more.
    """
    return _blocks[number]
