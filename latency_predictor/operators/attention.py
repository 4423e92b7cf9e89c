"""Operators of transformers: linear layers, products per head, norms, and what copies tokens.

A token's channels lie one after the other, so that rows are read in whole transactions.
"""

from dataclasses import dataclass

import numpy as np

from .operator import Move, Operator

# Passes over its rows: a sum and what is done with it, twice, as the authors' simulator counts a
# layer norm (mean, variance) and a softmax (largest score, sum of exponentials).
ROW_PASSES = 4


@dataclass(frozen=True)
class Operand(Move):
    """The second matrix of a product, one for each patch: ``depth`` elements for each column."""

    def elements(
        self, all_channels: int, channels: np.ndarray, height: np.ndarray, width: np.ndarray
    ) -> np.ndarray:
        """Elements for tiles of channels columns, whatever their rows."""
        return channels * float(self.depth)


def linear(name: str, inputs: int, outputs: int, rows: int) -> Operator:
    """A linear layer of ``rows`` tokens, all images together: one product with one matrix."""
    size = inputs * outputs + rows * (inputs + outputs)
    moves = Move(1, group_channels=inputs), Move(1)
    return Operator(name, rows, outputs, 1, 1, inputs, size, moves, inputs)


def product(name: str, matrices: int, rows: int, inner: int, columns: int) -> Operator:
    """``matrices`` products of (rows, inner) with (inner, columns): one for each image and head."""
    size = matrices * (rows * inner + inner * columns + rows * columns)
    moves = Move(1, group_channels=inner), Operand(1, depth=inner), Move(1)
    return Operator(name, matrices, columns, rows, 1, inner, size, moves)


def over_rows(name: str, rows: int, channels: int) -> Operator:
    """A layer norm or a softmax of rows: in and out once, ``ROW_PASSES`` on chip, one launch."""
    moves = (Move(1),) * (ROW_PASSES + 1)
    return Operator(name, rows, channels, 1, 1, ROW_PASSES, 2 * rows * channels, moves)


def elementwise(name: str, rows: int, channels: int, reads: int = 1) -> Operator:
    """An operator on each element, such as gelu, or a copy of tokens, of ``reads`` tensors."""
    moves = (Move(1),) * (reads + 1)
    return Operator(name, rows, channels, 1, 1, 1.0, (reads + 1) * rows * channels, moves)
