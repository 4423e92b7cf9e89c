"""Latency over a grid of rates: knots chosen so that a bilinear function of them is good enough."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# A table is refined until it meets this between its knots, so that networks stay below twice that.
BLOCK_TOLERANCE = 0.01
SPLITS = 6

Lookup = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RateTable:
    """Latency over a grid of rates, bilinear between its knots and exact at them.

    Attributes:
        activation: (K,) ascending knots of the activation rate, from 0 to 1.
        dilated: (L,) ascending knots of the dilated rate, from 0 to 1.
        latency: (K, L) microseconds.
    """

    activation: Tensor
    dilated: Tensor
    latency: Tensor

    def __call__(self, activation_rate: Tensor, dilated_rate: Tensor) -> Tensor:
        """Microseconds (n,) at rates (n,), in double precision; differentiable."""
        row, down = interval(self.activation, activation_rate.double())
        column, right = interval(self.dilated, dilated_rate.double())
        left = torch.lerp(self.latency[row, column], self.latency[row + 1, column], down)
        other = torch.lerp(self.latency[row, column + 1], self.latency[row + 1, column + 1], down)
        return torch.lerp(left, other, right)

    def to(self, device: torch.device) -> 'RateTable':
        """The same on a device."""
        parts = (self.activation, self.dilated, self.latency)
        return RateTable(*(part.to(device) for part in parts))


def interval(knots: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """The interval that each rate lies in, and where in it, from 0 to 1."""
    index = (torch.searchsorted(knots, rate.detach(), right=True) - 1).clamp(0, len(knots) - 2)
    return index, (rate - knots[index]) / (knots[index + 1] - knots[index])


def fit_table(predict: Lookup, activation: np.ndarray, dilated: np.ndarray) -> RateTable:
    """Choose knots among rates until halfway between them the error is small."""

    def flipped(second: np.ndarray, first: np.ndarray) -> np.ndarray:
        return predict(first, second)

    rows, columns = _start(len(activation)), _start(len(dilated))
    whole = _grid(predict, activation[rows], dilated[columns])
    for _ in range(SPLITS):
        new_rows = _missing(predict, activation, rows, dilated[columns], whole)
        whole, rows = _extended(predict, activation, rows, new_rows, dilated[columns], whole)
        new_columns = _missing(flipped, dilated, columns, activation[rows], whole.T)
        whole, columns = _extended(
            flipped, dilated, columns, new_columns, activation[rows], whole.T
        )
        whole = whole.T
        if not len(new_rows) and not len(new_columns):
            break
    knots = (activation[rows], dilated[columns], whole)
    return RateTable(*(torch.tensor(np.ascontiguousarray(part)) for part in knots))


def _start(size: int, knots: int = 9) -> np.ndarray:
    """Indices of a lattice of ``size`` to start from: dense near 0, where latency changes most."""
    steps = np.linspace(0, 1, min(size, knots)) ** 2
    even = np.linspace(0, 1, min(size, knots))
    near = [0, min(1, size - 1)]
    return np.unique(np.round(np.r_[near, (size - 1) * steps, (size - 1) * even]).astype(int))


def _grid(predict: Lookup, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    one, other = np.meshgrid(first, second, indexing='ij')
    return predict(one.ravel(), other.ravel()).reshape(one.shape)


def _missing(
    predict: Lookup, lattice: np.ndarray, rows: np.ndarray, columns: np.ndarray, whole: np.ndarray
) -> np.ndarray:
    """Indices halfway between rows where the interpolation is not good enough."""
    middle = (rows[:-1] + rows[1:]) // 2
    open_ = np.flatnonzero(middle > rows[:-1])
    if not len(open_):
        return open_
    low, high = lattice[rows[open_]], lattice[rows[open_ + 1]]
    share = ((lattice[middle[open_]] - low) / (high - low))[:, None]
    guess = (1 - share) * whole[open_] + share * whole[open_ + 1]
    true = _grid(predict, lattice[middle[open_]], columns)
    return middle[open_][(np.abs(guess / true - 1) > BLOCK_TOLERANCE).any(1)]


def _extended(
    predict: Lookup,
    lattice: np.ndarray,
    rows: np.ndarray,
    new: np.ndarray,
    columns: np.ndarray,
    whole: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The table and its row indices with further rows."""
    if not len(new):
        return whole, rows
    both = np.r_[rows, new]
    order = np.argsort(both)
    return np.r_[whole, _grid(predict, lattice[new], columns)][order], both[order]
