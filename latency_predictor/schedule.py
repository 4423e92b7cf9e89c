"""Operation-to-hardware mapping and latency of one operator (Appendix A).

The outputs of an operator are P patches of C x S1 x S2 elements, stored together. They are cut into
tiles of T_P x T_C x T_S1 x T_S2, a tile is computed by one processing engine, and the tile shape
with the lowest latency is taken. A static operator is the same with P = batch size and the whole
map as its patch::

    l       = l_data + l_computation + l_launch
    l_data  = off-chip elements / BW_off
            + (n w(T) + n_S P sum_i a_i(T) / e_i(T)) / BW_on
    l_comp  = ceil(n / #PE) x K / (f lanes u(x))
    n_S     = ceil(C/T_C) ceil(S1/T_S1) ceil(S2/T_S2),  n = n_S ceil(P/T_P),  x = T_P T_C T_S1 T_S2

with w the weights a tile loads, a_i the elements of its i-th move between on-chip memory and the
engine, e_i the efficiency of that move's transactions, K the multiply-accumulates per output and u
the utilisation of the engine's lanes.
"""

import functools
from dataclasses import dataclass

import numpy as np

from .device import PRECISION_BYTES, Device
from .efficiency import engine_utilisation, transaction_efficiency
from .operators.operator import Count, Move, Operator

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


def patches_together(most: float, exact: bool) -> np.ndarray:
    """T_P to try: powers of two up to the first that holds all patches, LARGEST_TILE at most.

    A tile's shape is fixed before P is known, so that T_P may exceed P and leave slots idle. A
    still larger T_P is never better, hence the candidates do not depend on which P are asked for.
    In the richer tile set a tile may hold as many pixels in patches as in a map, LARGEST_TILE^2.
    """
    largest = LARGEST_TILE ** (2 if exact else 1)
    enough = int(np.ceil(np.log2(max(most, 1))))
    return 2.0 ** np.arange(min(enough, int(np.log2(largest))) + 1)


@dataclass(frozen=True)
class Schedule:
    """Latency of an operator with its best tile; arrays have the shape of the operator's patches.

    Attributes:
        name: The operator's.
        data, computation, launch: Seconds.
        total: Seconds, launch included and overlap taken off.
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
    first_moved: np.ndarray  # (M,) n_S a_1(T) / e_1(T), elements per patch
    other_moved: np.ndarray  # (M,) n_S sum_{i > 1} a_i(T) / e_i(T), elements per patch


@functools.lru_cache(maxsize=2048)
def _tile_terms(
    outputs: tuple[int, int, int],
    is_patch: bool,
    moves: tuple[Move, ...],
    weights_per_channel: float,
    layout: tuple[float, bool],
    exact: bool,
) -> _TileTerms:
    """Terms of all tiles of ``outputs`` = (C, S1, S2).

    Args:
        layout: Elements in a memory transaction; whether a pixel's channels are contiguous.
        exact: Whether map and channel tiles may be exact divisors.
    """
    transaction, channels_last = layout
    channels, height, width = outputs
    channel, row, column = (
        grid.ravel()
        for grid in np.meshgrid(
            tile_candidates(channels, exact),
            tile_candidates(height, exact or is_patch),
            tile_candidates(width, exact or is_patch),
            indexing='ij',
        )
    )
    tiles_per_patch = np.ceil(channels / channel) * np.ceil(height / row) * np.ceil(width / column)
    moved = []
    for move in moves:
        pixel = (move.group_channels or channel) if channels_last else 1
        moved.append(
            move.elements(channels, channel, row, column)
            / transaction_efficiency(pixel * column, pixel * (move.pitch - column), transaction)
        )
    return _TileTerms(
        np.stack([channel, row, column], -1),
        tiles_per_patch,
        weights_per_channel * channel,
        moved[0] * tiles_per_patch,
        sum(moved[1:]) * tiles_per_patch,
    )


def _onchip_elements(
    operator: Operator, terms: _TileTerms, patches: np.ndarray, count: np.ndarray, reuse: bool
) -> np.ndarray:
    """Elements between on-chip memory and the engines, (R, T, M), in units of useful ones."""
    each = patches[:, None, None]
    total = count * terms.weights
    if not reuse or operator.distinct_input is None:
        return total + each * (terms.first_moved + terms.other_moved)
    # The engine's local memory still holds what the neighbouring patch loaded.
    passes = np.ceil(operator.channels / terms.edges[:, 0])
    distinct = np.broadcast_to(operator.distinct_input, patches.shape)[:, None, None]
    total += np.minimum(each * terms.first_moved, passes * distinct)
    return total + each * terms.other_moved


def _offchip_seconds(
    operator: Operator, device: Device, patches: np.ndarray, element: int
) -> np.ndarray:
    """(R,) seconds of off-chip traffic.

    Of a working set that exceeds the on-chip capacity, the excess share is off-chip: an access
    finds its element on chip with the probability that it is among those that fit.
    """
    whole = operator.offchip if operator.working_set is None else operator.working_set
    whole = np.maximum(np.asarray(whole, float) * element, 1e-30)
    missed = np.maximum(1 - device.onchip_capacity * 1e6 / whole, 0.0)
    moved = operator.offchip * missed * element / (device.offchip_bandwidth * 1e9)
    return np.where(patches > 0, moved, 0.0)


def _computed_share(operator: Operator, device: Device) -> np.ndarray:
    """(R,) or (1,) lane operations that are really done per multiply-accumulate."""
    share: Count = 1 - device.padding_skipped * operator.padding_share
    if device.winograd and operator.winograd_share is not None:
        share = np.minimum(share, operator.winograd_share)
    return np.atleast_1d(share)


def schedule(
    operator: Operator, device: Device, precision: str = 'fp32', tiles: str = 'paper'
) -> Schedule:
    """Latency of ``operator`` with the best tile for each of its patch counts.

    Args:
        operator: What to compute; ``operator.patches`` is a scalar or a 1-d array (R,).
        device, precision: Where and in which number format.
        tiles: Candidate set, one of TILE_SETS.
    """
    patches = np.atleast_1d(np.asarray(operator.patches, float))
    element = PRECISION_BYTES[precision]
    exact = tiles == 'divisors'
    terms = _tile_terms(
        (operator.channels, operator.height, operator.width),
        operator.is_patch,
        operator.moves,
        operator.weights_per_channel,
        (device.transaction / element, bool(device.channels_last)),
        exact,
    )
    together = patches_together(patches.max(), exact)[:, None]  # (T, 1): T_P

    outputs = together * terms.edges.prod(-1)  # (T, M): x
    lanes = device.macs_per_second(precision)
    parallel = device.lanes[precision] * device.pipeline_depth
    tile_time = outputs * operator.macs_per_output / (lanes * engine_utilisation(outputs, parallel))
    groups = np.ceil(patches[:, None, None] / together)  # (R, T, 1): ceil(P / T_P)
    count = groups * terms.tiles_per_patch  # (R, T, M): n
    computation = np.ceil(count / device.processing_engines) * tile_time
    computation *= _computed_share(operator, device)[:, None, None]
    if device.any_tile:  # the last tile is cut to the patches that are left
        computation *= patches[:, None, None] / np.maximum(groups * together, 1)

    data = _onchip_elements(operator, terms, patches, count, bool(device.halo_reuse))
    data *= element / (device.onchip_bandwidth * 1e9)
    data += _offchip_seconds(operator, device, patches, element)[:, None, None]

    total = data + computation
    if device.overlap:
        total -= device.overlap * np.minimum(data, computation)
    return _pick(operator, device, patches, together, terms, data, computation, total)


def _pick(
    operator: Operator,
    device: Device,
    patches: np.ndarray,
    together: np.ndarray,
    terms: _TileTerms,
    data: np.ndarray,
    computation: np.ndarray,
    total: np.ndarray,
) -> Schedule:
    """Reduce (R, T, M) latencies to the chosen tile of each patch count."""
    flat = total.reshape(len(patches), -1)
    best = flat.argmin(-1)
    rows = np.arange(len(patches))
    chosen_t, chosen_m = np.divmod(best, len(terms.edges))
    launch = operator.launches * device.kernel_launch * 1e-6
    shape = np.shape(operator.patches)
    tile = np.concatenate([together[chosen_t], terms.edges[chosen_m]], -1).astype(int)
    return Schedule(
        operator.name,
        data.reshape(len(patches), -1)[rows, best].reshape(shape),
        computation.reshape(len(patches), -1)[rows, best].reshape(shape),
        launch,
        flat[rows, best].reshape(shape) + launch,
        tile.reshape(*shape, 4),
    )
