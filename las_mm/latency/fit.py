"""Predicted latency as a differentiable function of every block's rates (Sec. 3.3).

The predictor searches tiles and counts whole patches, so that its latency is a table of steps. Here
it becomes piecewise linear: a few of its entries are knots, between which it is interpolated in the
activation rate r and the dilated rate.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from latency_predictor import (
    BlockSpec,
    Fusion,
    LatencyModel,
    NetworkSpec,
)
from latency_predictor.rates import block_dilated_rate

# A table is refined until it meets this between its knots, so that networks stay below twice that.
BLOCK_TOLERANCE = 0.01
SPLITS = 6
# Dilated rates that may become knots.
DILATED = np.linspace(0, 1, 129)

Shares = Mapping[str, Tensor]
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
        row, down = _interval(self.activation, activation_rate.double())
        column, right = _interval(self.dilated, dilated_rate.double())
        left = torch.lerp(self.latency[row, column], self.latency[row + 1, column], down)
        other = torch.lerp(self.latency[row, column + 1], self.latency[row + 1, column + 1], down)
        return torch.lerp(left, other, right)

    def to(self, device: torch.device) -> 'RateTable':
        """The same on a device."""
        parts = (self.activation, self.dilated, self.latency)
        return RateTable(*(part.to(device) for part in parts))


def _interval(knots: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """The interval that each rate lies in, and where in it, from 0 to 1."""
    index = (torch.searchsorted(knots, rate.detach(), right=True) - 1).clamp(0, len(knots) - 2)
    return index, (rate - knots[index]) / (knots[index + 1] - knots[index])


@dataclass(frozen=True)
class BlockFit:
    """Latency of the blocks of one shape: the better of masker and conv1 fused or not (Sec. 3.4).

    Attributes:
        blocks: Their places in the network.
        options: A table with the masker fused into conv1, and one without.
        static_us: Latency of the static block.
    """

    blocks: tuple[int, ...]
    options: tuple[RateTable, RateTable]
    static_us: float

    def __call__(self, activation_rate: Tensor, dilated_rate: Tensor) -> Tensor:
        """Microseconds (n,) at rates (n,), in double precision; differentiable."""
        return torch.minimum(*(table(activation_rate, dilated_rate) for table in self.options))


@dataclass(frozen=True)
class LatencyFit:
    """Latency of a network as a differentiable function of its rates.

    Attributes:
        device: Name of the device.
        fits: One per shape of block.
        other_us: What is not in a block: the stem.
        static_us: ℓ_stat of the network.
        error: Largest relative error of the network against the predictor, at random whole numbers
            of patches; between these the predictor rounds up, and the fit does not.
        block_error: Largest relative error of a block there.
    """

    device: str
    fits: tuple[BlockFit, ...]
    other_us: float
    static_us: float
    error: float = float('nan')
    block_error: float = float('nan')

    def blocks_us(self, shares: Sequence[Shares]) -> Tensor:
        """Microseconds of each block, (blocks,), at the shares of each, scalars by their names."""
        activation_rates, dilated_rates = _rates(shares)
        where = torch.tensor([index for fit in self.fits for index in fit.blocks])
        where = where.to(activation_rates.device)
        parts = []
        for fit in self.fits:
            chosen = list(fit.blocks)
            parts.append(fit(activation_rates[chosen], dilated_rates[chosen]))
        return torch.cat(parts)[torch.argsort(where)].to(activation_rates.dtype)

    def block_ratios(self, shares: Sequence[Shares]) -> Tensor:
        """ℓ_dyn / ℓ_stat of each block, (blocks,)."""
        times = {index: fit.static_us for fit in self.fits for index in fit.blocks}
        blocks = self.blocks_us(shares)
        return blocks / blocks.new_tensor([times[index] for index in sorted(times)])

    def ratio(self, shares: Sequence[Shares]) -> Tensor:
        """ℓ_dyn / ℓ_stat of the network, a scalar."""
        blocks = self.blocks_us(shares).sum()
        return (blocks + self.other_us) / self.static_us

    def to(self, device: torch.device) -> 'LatencyFit':
        """The same with its tables on a device."""

        fits = [
            replace(fit, options=(fit.options[0].to(device), fit.options[1].to(device)))
            for fit in self.fits
        ]
        return replace(self, fits=tuple(fits))


def fit_latency(model: LatencyModel, network: NetworkSpec, tries: int = 64) -> LatencyFit:
    """Fit a network's latency on a device, and measure the fit's error.

    Args:
        model: The predictor.
        network: The network.
        tries: Number of random rates per block at which the fit is held against the predictor.
    """
    shapes: dict[BlockSpec, list[int]] = {}
    for index, block in enumerate(network.blocks):
        shapes.setdefault(model.shape_of(block), []).append(index)
    fits = tuple(_fit_block(model, block, tuple(where)) for block, where in shapes.items())
    whole = model.network(network, 1.0)
    fit = LatencyFit(model.device.name, fits, whole.other_us, whole.static_ms * 1e3)
    error, block_error = _errors(fit, model, network, tries)
    return replace(fit, error=error, block_error=block_error)


def _rates(shares: Sequence[Shares]) -> tuple[Tensor, Tensor]:
    """(blocks,) activation and dilated rates; of a block that runs as a whole both its share."""
    active = [part['sites'] if 'sites' in part else part['branch'] for part in shares]
    dilated = [part.get('dilated', rate) for part, rate in zip(shares, active, strict=True)]
    return torch.stack(active), torch.stack(dilated)


def uniform_shares(network: NetworkSpec, rate: float) -> list[dict[str, Tensor]]:
    """Shares of each block if every activation rate is ``rate``, and dilated as expected."""
    shares = []
    for block in network.blocks:
        dilated = rate if block.granularity == 'all' else float(block_dilated_rate(block, rate))
        shares.append({'sites': torch.tensor(float(rate)), 'dilated': torch.tensor(dilated)})
    return shares


def _fit_block(model: LatencyModel, block: BlockSpec, where: tuple[int, ...]) -> BlockFit:
    patches = _patch_rates(block)
    fused, separate = (
        _fit_table(partial(_predict, model, block, fused), patches, DILATED)
        for fused in (True, False)
    )
    static = model.block(block.static()).static_us
    return BlockFit(where, (fused, separate), static)


def _patch_rates(block: BlockSpec) -> np.ndarray:
    """The activation rates that the predictor tells apart: those of whole patches.

    Between two neighbours its latency jumps, because it rounds up; the fit joins them.
    """
    rows, columns = block.grid
    return np.arange(rows * columns + 1) / (rows * columns)


def _predict(
    model: LatencyModel, block: BlockSpec, fused: bool, activation: np.ndarray, dilated: np.ndarray
) -> np.ndarray:
    """The predictor's microseconds at rates (n,), in one vectorised search."""
    blocks = tuple(replace(block, name=str(index)) for index in range(len(activation)))
    fusion = Fusion(masker_conv1=fused)
    network = NetworkSpec(block.name, block.input_size, blocks)
    shares = {'sites': activation, 'branch': activation, 'dilated': dilated}
    found = model.network(network, shares, fusion).blocks
    return np.array([latency.dynamic_us for latency in found])


def _fit_table(predict: Lookup, activation: np.ndarray, dilated: np.ndarray) -> RateTable:
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


def _errors(
    fit: LatencyFit, model: LatencyModel, network: NetworkSpec, tries: int
) -> tuple[float, float]:
    """Largest relative error of the network and of a block at random numbers of patches."""
    generator = np.random.default_rng(0)
    sums, worst = np.zeros((2, tries)), 0.0
    for part in fit.fits:
        block = model.shape_of(network.blocks[part.blocks[0]])
        activation = generator.choice(_patch_rates(block), tries)
        # At S = 1 a patch with its halo covers nine pixels, but halos overlap.
        highest = np.minimum(1, 3 * activation)
        dilated = activation + generator.random(tries) * (highest - activation)
        true = np.minimum(*(_predict(model, block, f, activation, dilated) for f in (True, False)))
        ours = part(torch.tensor(activation), torch.tensor(dilated)).numpy()
        worst = max(worst, float(np.abs(ours / true - 1).max()))
        sums += len(part.blocks) * np.stack([ours, true])
    ours, true = sums + fit.other_us
    return float(np.abs(ours / true - 1).max()), worst
