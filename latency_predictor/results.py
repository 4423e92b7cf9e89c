"""Typed results of the latency model; plain numbers, microseconds and milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class OperatorLatency:
    """One kernel: where its time goes and the tile it runs with.

    Attributes:
        name: Of the operator.
        total_us, data_us, compute_us, launch_us: Microseconds.
        tile: Best (T_P, T_C, T_S1, T_S2).
    """

    name: str
    total_us: float
    data_us: float
    compute_us: float
    launch_us: float
    tile: tuple[int, ...]


@dataclass(frozen=True)
class BlockLatency:
    """Latency of one block.

    Attributes:
        name, stage: Of the block.
        activation_rate: r; 1 for a static block.
        static_us, dynamic_us: Without and with the masker, microseconds for the whole batch.
        masker_fused: Whether masker and conv1 share a kernel (r > r_th); None for a static block.
        operators: Breakdown of dynamic_us (of static_us in a static block).
        static_operators: Breakdown of static_us.
        shares: Of all that the block decides on, by name.
    """

    name: str
    stage: int
    activation_rate: float
    static_us: float
    dynamic_us: float
    masker_fused: bool | None
    operators: tuple[OperatorLatency, ...]
    static_operators: tuple[OperatorLatency, ...]
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """r_l = l_dyn / l_stat."""
        return self.dynamic_us / self.static_us


@dataclass(frozen=True)
class NetworkLatency:
    """Latency of a network on one device, stem and head included.

    Attributes:
        device: Name.
        network: Name.
        static_ms, dynamic_ms: Milliseconds for the whole batch.
        blocks: One BlockLatency per block.
        other_us: Stem and head, microseconds.
    """

    device: str
    network: str
    static_ms: float
    dynamic_ms: float
    blocks: tuple[BlockLatency, ...]
    other_us: float

    @property
    def ratio(self) -> float:
        """r_l = l_dyn / l_stat."""
        return self.dynamic_ms / self.static_ms


@dataclass(frozen=True)
class BlockCurve:
    """A block at many activation rates; arrays of shape (R,), microseconds.

    Attributes:
        activation_rates: r.
        static_us: Scalar latency of the static block.
        dynamic_us: Latency of the dynamic block.
        masker_fused: Whether masker and conv1 share a kernel.
    """

    activation_rates: np.ndarray
    static_us: float
    dynamic_us: np.ndarray
    masker_fused: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """r_l at each activation rate."""
        return self.dynamic_us / self.static_us
