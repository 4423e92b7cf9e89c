"""Sweeps over r, S and devices, and the choice of a granularity (Section 4.2)."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .checks import check_rate
from .model import LatencyModel
from .network import NetworkSpec
from .spec import BlockSpec

# A larger S is worth its lost flexibility only if it lowers r_l by more than this. It is where
# Section 4.2 draws the line on V100: S = 8 to 28 "brings very little improvement".
KNEE_TOLERANCE = 0.05


def legal_granularities(network: NetworkSpec) -> tuple[tuple[int, ...], ...]:
    """Per stage, every S that cuts the stage's map into two or more whole patches, ascending.

    Section 3.2: {1, 2, 4, 7, 8, 14, 28} for the 56 x 56 maps of stage 1; one patch for the whole
    map would be layer skipping, which the paper leaves out too.
    """
    edges = {block.stage: math.gcd(block.height, block.width) for block in network.conv_blocks}
    maps = {block.stage: max(block.height, block.width) for block in network.conv_blocks}
    return tuple(
        tuple(s for s in range(1, edge + 1) if edge % s == 0 and s < maps[stage]) or (1,)
        for stage, edge in sorted(edges.items())
    )


@dataclass(frozen=True)
class StageCurves:
    """One stage of a network on one device: all its blocks together, microseconds.

    Attributes:
        device, stage: Which.
        granularities: S, shape (G,).
        activation_rates: r, shape (R,).
        static_us: Static latency of the stage.
        dynamic_us: Dynamic latency, shape (G, R).
    """

    device: str
    stage: int
    granularities: tuple[int, ...]
    activation_rates: np.ndarray
    static_us: float
    dynamic_us: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """r_l of the stage, shape (G, R)."""
        return self.dynamic_us / self.static_us

    def knee(self, rate_index: int, tolerance: float = KNEE_TOLERANCE) -> int:
        """The smallest S whose r_l no larger S lowers by more than ``tolerance``."""
        ratio = self.ratio[:, rate_index]
        best_beyond = np.minimum.accumulate(ratio[::-1])[::-1]
        return self.granularities[int(np.argmax(ratio - best_beyond <= tolerance))]


def sweep(
    model: LatencyModel,
    network: NetworkSpec,
    activation_rates: Sequence[float],
    granularities: Sequence[Sequence[int]] | None = None,
) -> tuple[StageCurves, ...]:
    """Latency of every stage at every S and r.

    Args:
        model: Device, precision and batch size.
        network: Its own granularities are ignored.
        activation_rates: r, shape (R,).
        granularities: S to try per stage; None is ``legal_granularities``.
    """
    rates = np.atleast_1d(check_rate('activation_rates', activation_rates))
    stages = sorted({block.stage for block in network.conv_blocks})
    tried = legal_granularities(network) if granularities is None else granularities
    if len(tried) != len(stages):
        raise ValueError(
            f'granularities: got {len(tried)} stages; give the {len(stages)} of {network.name}'
        )
    return tuple(
        _stage_curves(model, network, stage, tuple(sizes), rates)
        for stage, sizes in zip(stages, tried, strict=True)
    )


def _stage_curves(
    model: LatencyModel, network: NetworkSpec, stage: int, sizes: tuple[int, ...], rates: np.ndarray
) -> StageCurves:
    counts: dict[BlockSpec, int] = {}
    for block in network.conv_blocks:
        if block.stage == stage:
            shape = model.shape_of(block)
            counts[shape] = counts.get(shape, 0) + 1
    static, dynamic = 0.0, np.zeros((len(sizes), len(rates)))
    for block, count in counts.items():
        curves = [model.curve(block.with_granularity(size), rates) for size in sizes]
        static += count * curves[0].static_us
        dynamic += count * np.stack([curve.dynamic_us for curve in curves])
    return StageCurves(model.device.name, stage, sizes, rates, static, dynamic)


@dataclass(frozen=True)
class Candidate:
    """One S_net with its predicted latency.

    Attributes:
        granularity: S per stage.
        dynamic_ms: Predicted latency, stem and head included.
        ratio: r_l against the static network.
    """

    granularity: tuple[int, ...]
    dynamic_ms: float
    ratio: float

    @property
    def label(self) -> str:
        return '-'.join(map(str, self.granularity))


@dataclass(frozen=True)
class SearchResult:
    """Every S_net, fastest first, and the recommended one.

    Attributes:
        device, network, activation_rate: The question.
        static_ms: Latency of the static network.
        ranked: All candidates, fastest first; equal ones with the smaller S first.
        recommended: The knee of every stage, see ``StageCurves.knee``.
        stage_ratios: Per stage, r_l of each S.
    """

    device: str
    network: str
    activation_rate: float
    static_ms: float
    ranked: tuple[Candidate, ...]
    recommended: Candidate
    stage_ratios: tuple[Mapping[int, float], ...]


def search_granularity(
    model: LatencyModel,
    network: NetworkSpec,
    activation_rate: float = 0.5,
    granularities: Sequence[Sequence[int]] | None = None,
    tolerance: float = KNEE_TOLERANCE,
) -> SearchResult:
    """Rank every S_net by predicted latency and find the knee (Section 4.2).

    The latency falls with S while a mask of larger patches is less flexible. Per stage the knee is
    the smallest S that is within ``tolerance`` in r_l of every larger one.
    """
    curves = sweep(model, network, [activation_rate], granularities)
    other_us = model.layers_us(network)
    static_us = other_us + sum(curve.static_us for curve in curves)

    def candidate(choice: Sequence[int]) -> Candidate:
        dynamic = other_us + sum(
            float(curve.dynamic_us[i, 0]) for curve, i in zip(curves, choice, strict=True)
        )
        sizes = tuple(curve.granularities[i] for curve, i in zip(curves, choice, strict=True))
        return Candidate(sizes, dynamic * 1e-3, dynamic / static_us)

    everything = [
        candidate(choice)
        for choice in itertools.product(*(range(len(curve.granularities)) for curve in curves))
    ]
    knee = tuple(curve.granularities.index(curve.knee(0, tolerance)) for curve in curves)
    return SearchResult(
        model.device.name,
        network.name,
        float(activation_rate),
        static_us * 1e-3,
        tuple(sorted(everything, key=lambda c: (c.dynamic_ms, c.granularity))),
        candidate(knee),
        tuple(
            {s: float(r) for s, r in zip(curve.granularities, curve.ratio[:, 0], strict=True)}
            for curve in curves
        ),
    )
