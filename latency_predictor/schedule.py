"""Operation-to-hardware mapping and latency of one operator (Appendix A).

The outputs of an operator are P patches of C x S1 x S2 elements, stored together. They are cut into
tiles of T_P x T_C x T_S1 x T_S2, a tile is computed by one processing engine, and the tile shape
with the lowest latency is taken. A static operator is the same with P = batch size and the whole
map as its patch.

    l       = l_data + l_computation + l_launch
    l_data  = off-chip elements / BW_off
            + (n w(T) + n_S P sum_i a_i(T) / e_i(T)) / BW_on
    l_comp  = ceil(n / #PE) x K / (f lanes u(x))
    n_S     = ceil(C/T_C) ceil(S1/T_S1) ceil(S2/T_S2),  n = n_S ceil(P/T_P),  x = T_P T_C T_S1 T_S2

with w the weights a tile loads, a_i the elements of its i-th move between on-chip memory and the
engine, e_i the efficiency of that move's transactions, K the multiply-accumulates per output and u
the utilisation of the engine's lanes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from .device import PRECISION_BYTES, Device
from .efficiency import engine_utilisation, transaction_efficiency
from .operators import Operator

__all__ = ['LARGEST_TILE', 'TILE_SETS', 'Schedule', 'schedule', 'tile_candidates']

# Longest tile edge, 2^7: the search bound of the authors' released simulator.
LARGEST_TILE = 128

# Candidates along channels and along the edges of a whole map. 'paper' is Appendix A's powers of
# two; 'divisors' adds the exact divisors, a scheduler that is better than the paper's.
TILE_SETS = ('paper', 'divisors')


@functools.cache
def tile_candidates(size: int, divisors: bool) -> np.ndarray:
    """Tile edges to try along a dimension: powers of two and, if asked for, exact divisors.

    None exceeds ``size`` or LARGEST_TILE. Ascending floats, always containing 1.
    """
    largest = min(size, LARGEST_TILE)
    edges = {1 << i for i in range(largest.bit_length()) if 1 << i <= largest}
    if divisors:
        edges |= {d for d in range(1, largest + 1) if size % d == 0}
    return np.array(sorted(edges), float)


def patches_together(most: float) -> np.ndarray:
    """T_P to try: powers of two up to the first that holds all patches, LARGEST_TILE at most.

    A tile's shape is fixed before P is known, so that T_P may exceed P and leave slots idle. A
    still larger T_P is never better, hence the candidates do not depend on which P are asked for.
    """
    enough = int(np.ceil(np.log2(max(most, 1))))
    return 2.0 ** np.arange(min(enough, int(np.log2(LARGEST_TILE))) + 1)


@dataclass(frozen=True)
class Schedule:
    """Latency of an operator with its best tile; arrays have the shape of the operator's patches.

    Attributes:
        name: the operator's.
        data, computation, launch: seconds.
        tile: (T_P, T_C, T_S1, T_S2) of the best tile, last axis of length 4.
    """

    name: str
    data: np.ndarray
    computation: np.ndarray
    launch: float
    total: np.ndarray
    tile: np.ndarray


@dataclass(frozen=True)
class _TileTerms:
    """Everything about the candidate tiles that does not depend on P; M spatial-channel tiles."""

    edges: np.ndarray  # (M, 3): T_C, T_S1, T_S2
    tiles_per_patch: np.ndarray  # (M,) n_S
    weights: np.ndarray  # (M,) w(T), elements
    moved: np.ndarray  # (M,) sum_i a_i(T) / e_i(T), elements per patch


def _tile_terms(operator: Operator, transaction: float, tiles: str) -> _TileTerms:
    exact = tiles == 'divisors'
    channel, row, column = np.meshgrid(
        tile_candidates(operator.channels, exact),
        tile_candidates(operator.height, exact or operator.is_patch),
        tile_candidates(operator.width, exact or operator.is_patch), indexing='ij')
    channel, row, column = channel.ravel(), row.ravel(), column.ravel()
    tiles_per_patch = (np.ceil(operator.channels / channel) * np.ceil(operator.height / row)
                       * np.ceil(operator.width / column))
    moved = sum(
        move.elements(operator.channels, channel, row, column)
        / transaction_efficiency(column, move.pitch - column, transaction)
        for move in operator.moves)
    return _TileTerms(np.stack([channel, row, column], -1), tiles_per_patch,
                      operator.weights_per_channel * channel, moved)


def schedule(operator: Operator, device: Device, precision: str = 'fp32',
             tiles: str = 'paper') -> Schedule:
    """Latency of ``operator`` with the best tile for each of its patch counts.

    Args:
        operator: what to compute; ``operator.patches`` is a scalar or a 1-d array (R,).
        device, precision: where and in which number format.
        tiles: candidate set, one of TILE_SETS.
    """
    patches = np.atleast_1d(np.asarray(operator.patches, float))
    element = PRECISION_BYTES[precision]
    terms = _tile_terms(operator, device.transaction / element, tiles)
    together = patches_together(patches.max())[:, None]  # (T, 1): T_P

    outputs = together * terms.edges.prod(-1)  # (T, M): x
    lanes = device.macs_per_second(precision)
    parallel = device.lanes[precision] * device.pipeline_depth
    tile_time = outputs * operator.macs_per_output / (
        lanes * engine_utilisation(outputs, parallel))
    groups = np.ceil(patches[:, None, None] / together)  # (R, T, 1): ceil(P / T_P)
    count = groups * terms.tiles_per_patch  # (R, T, M): n
    computation = np.ceil(count / device.processing_engines) * tile_time

    onchip = element / (device.onchip_bandwidth * 1e9)
    data = count * (terms.weights * onchip)
    data += patches[:, None, None] * (terms.tiles_per_patch * terms.moved * onchip)
    offchip = np.where(patches > 0, operator.offchip, 0.0)
    data += (offchip * element / (device.offchip_bandwidth * 1e9))[:, None, None]

    total = data + computation
    if device.overlap:
        total -= device.overlap * np.minimum(data, computation)
    return _pick(operator, device, patches, together, terms, data, computation, total)


def _pick(operator, device, patches, together, terms, data, computation, total):
    """Reduce (R, T, M) latencies to the chosen tile of each patch count."""
    flat = total.reshape(len(patches), -1)
    best = flat.argmin(-1)
    rows = np.arange(len(patches))
    chosen_t, chosen_m = np.divmod(best, len(terms.edges))
    launch = operator.launches * device.kernel_launch * 1e-6
    shape = np.shape(operator.patches)
    tile = np.concatenate([together[chosen_t], terms.edges[chosen_m]], -1).astype(int)
    return Schedule(
        operator.name, data.reshape(len(patches), -1)[rows, best].reshape(shape),
        computation.reshape(len(patches), -1)[rows, best].reshape(shape), launch,
        flat[rows, best].reshape(shape) + launch, tile.reshape(*shape, 4))
