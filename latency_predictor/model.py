"""Latency of blocks and networks: l = g(H, P, S, r) (Section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from .block import (
    DEFAULT_FUSION,
    Fusion,
    dynamic_first_convolution,
    dynamic_rest,
    layer_operator,
    static_operators,
)
from .device import Device, load_device
from .operators import Operator
from .rates import check_rate
from .results import BlockCurve, BlockLatency, NetworkLatency, OperatorLatency
from .schedule import TILE_SETS, Schedule, schedule
from .skipping import SKIPPING_MODES, skipping_operators
from .spec import BlockSpec, NetworkSpec

__all__ = ['LatencyModel']

Rates = Sequence[float] | np.ndarray  # one for each of the blocks asked for
_Run = tuple[np.ndarray, list[Schedule]]  # total seconds of some operators (R,), their schedules


class LatencyModel:
    """The latency predictor for one device, precision and batch size.

    Args:
        device: Device, name of a shipped one, or path of a device file.
        precision: 'fp32', 'tf32', 'fp16' or 'bf16', as far as the device has it.
        batch_size: images per forward; latencies are for the whole batch.
        tiles: 'paper' (powers of two, Appendix A) or 'divisors' (also exact divisors); None is
            what the device file says, the paper's unless ``any_tile`` is set.

    Raises:
        ValueError: unknown device, precision, tile set or a batch size below 1.
    """

    def __init__(
        self,
        device: Device | str,
        precision: str = 'fp32',
        batch_size: int = 1,
        tiles: str | None = None,
    ) -> None:
        self.device = load_device(device)
        self.device.macs_per_second(precision)  # raises where the device lacks the precision
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f'batch_size is {batch_size!r}: it must be an integer >= 1')
        if tiles is None:
            tiles = 'divisors' if self.device.any_tile else 'paper'
        if tiles not in TILE_SETS:
            raise ValueError(f"tiles is '{tiles}': choose one of {', '.join(TILE_SETS)}")
        self.precision, self.batch_size, self.tiles = precision, batch_size, tiles
        self._static: dict[tuple[BlockSpec, bool], tuple[Schedule, ...]] = {}

    # -- one block ------------------------------------------------------------------------------

    def block(
        self,
        spec: BlockSpec,
        activation_rate: float | None = None,
        dilated_rate: float | None = None,
        fusion: Fusion = DEFAULT_FUSION,
    ) -> BlockLatency:
        """Latency of one block with a breakdown by operator.

        Args:
            spec: the block; its granularity None makes it static.
            activation_rate: r in [0, 1]; may be None for a static block only.
            dilated_rate: share of conv1's pixels computed when conv1 is not fused with the masker.
                None: every active patch with its own halo, overlaps computed twice (what a
                gathering kernel does), i.e. r ((sS + halo) / sS)^2.
            fusion: which operators share a kernel.

        Raises:
            ValueError: a rate outside [0, 1], or missing for a dynamic block.
        """
        rates = None if activation_rate is None else [activation_rate]
        dilated = None if dilated_rate is None else [dilated_rate]
        return self._blocks(spec, [spec.name], rates, dilated, fusion)[0]

    def curve(
        self, spec: BlockSpec, activation_rates: Rates, fusion: Fusion = DEFAULT_FUSION
    ) -> BlockCurve:
        """One dynamic block at many activation rates, in one vectorised search."""
        rates = self._check(spec, activation_rates)
        static = sum(float(s.total) for s in self._static_schedules(spec, fusion.conv3_add))
        dynamic, fused, _ = self._dynamic(spec, rates, None, fusion)
        return BlockCurve(rates, static * 1e6, dynamic * 1e6, fused)

    # -- a network ------------------------------------------------------------------------------

    def network(
        self,
        spec: NetworkSpec,
        activation_rates: ArrayLike = 1.0,
        dilated_rates: ArrayLike | None = None,
        fusion: Fusion = DEFAULT_FUSION,
    ) -> NetworkLatency:
        """Latency of a network: stem, blocks and head.

        Args:
            spec: the network.
            activation_rates: one r for all blocks, or one per block.
            dilated_rates: None, one for all blocks, or one per block (see ``block``).
            fusion: which operators share a kernel.

        Raises:
            ValueError: a rate outside [0, 1], or not as many rates as blocks.
        """
        rates = _per_block('activation_rates', activation_rates, spec)
        dilated = (
            None if dilated_rates is None else _per_block('dilated_rates', dilated_rates, spec)
        )
        alike: dict[BlockSpec, list[int]] = {}
        for index, block in enumerate(spec.blocks):
            alike.setdefault(self.shape_of(block), []).append(index)
        blocks: list = [None] * len(spec.blocks)
        for block, where in alike.items():
            names = [spec.blocks[i].name for i in where]
            found = self._blocks(
                block, names, rates[where], None if dilated is None else dilated[where], fusion
            )
            for index, latency in zip(where, found, strict=True):
                blocks[index] = latency
        other = (
            sum(
                float(self._schedule(layer_operator(layer, self.batch_size)).total)
                for layer in (*spec.stem, *spec.head)
            )
            * 1e6
        )
        return NetworkLatency(
            self.device.name,
            spec.name,
            static_ms=(other + sum(b.static_us for b in blocks)) * 1e-3,
            dynamic_ms=(other + sum(b.dynamic_us for b in blocks)) * 1e-3,
            blocks=tuple(blocks),
            other_us=other,
        )

    def skipping_block(
        self, spec: BlockSpec, rate: float, mode: str = 'layer', channel_group: int = 1
    ) -> BlockLatency:
        """The block under layer or channel skipping instead of a spatial mask.

        Args:
            spec: the block; its granularity is not used.
            rate: probability that the layer runs, or share of active inner channels, in [0, 1].
            mode: 'layer' or 'channel'.
            channel_group: channels that share one decision.

        Raises:
            ValueError: unknown mode, a rate outside [0, 1], a group that does not divide.
        """
        rate = float(check_rate(f"block '{spec.name}': activation_rate", rate))
        if mode not in SKIPPING_MODES[1:]:
            raise ValueError(f"mode is '{mode}': choose one of {', '.join(SKIPPING_MODES[1:])}")
        if channel_group < 1 or spec.mid_channels % channel_group:
            raise ValueError(
                f"block '{spec.name}': channel_group is {channel_group}, it must "
                f'divide mid_channels = {spec.mid_channels}'
            )
        static = tuple(_operator_latency(s, 0) for s in self._static_schedules(spec))
        found = [
            (share, _operator_latency(self._schedule(operator), 0))
            for share, operator in skipping_operators(
                spec, mode, rate, channel_group, self.batch_size
            )
        ]
        expected = tuple(
            replace(
                o,
                total_us=share * o.total_us,
                data_us=share * o.data_us,
                compute_us=share * o.compute_us,
                launch_us=share * o.launch_us,
            )
            for share, o in found
        )
        return BlockLatency(
            spec.name,
            spec.stage,
            rate,
            sum(o.total_us for o in static),
            sum(o.total_us for o in expected),
            None,
            expected,
            static,
        )

    @staticmethod
    def shape_of(block: BlockSpec) -> BlockSpec:
        """The block without its name: all that its latency depends on."""
        return replace(block, name=f'stage {block.stage}')

    # -- inside ---------------------------------------------------------------------------------

    def _schedule(self, operator: Operator) -> Schedule:
        return schedule(operator, self.device, self.precision, self.tiles)

    def _check(self, spec: BlockSpec, rates: Rates | None) -> np.ndarray:
        owner = f"block '{spec.name}': activation_rate"
        if spec.granularity is None:
            return np.ones(1 if rates is None else len(rates))
        if rates is None:
            raise ValueError(f'{owner} is missing: a dynamic block needs one from 0 to 1')
        return np.atleast_1d(check_rate(owner, rates))

    def _static_schedules(self, spec: BlockSpec, conv3_add: bool = False) -> tuple[Schedule, ...]:
        shape = self.shape_of(spec).with_granularity(None)
        key = shape, conv3_add
        if key not in self._static:
            self._static[key] = tuple(
                self._schedule(operator)
                for operator in static_operators(shape, self.batch_size, conv3_add)
            )
        return self._static[key]

    def _dynamic(
        self,
        spec: BlockSpec,
        rates: np.ndarray,
        dilated: np.ndarray | None,
        fusion: Fusion,
    ) -> tuple[np.ndarray, np.ndarray, tuple[dict[bool, _Run], list[Schedule]]]:
        """Total seconds (R,), masker_fused (R,) and the schedules behind them."""

        def run(operators: list[Operator]) -> _Run:
            found = [self._schedule(operator) for operator in operators]
            return sum(s.total for s in found) + np.zeros(len(rates)), found

        rest, rest_found = run(dynamic_rest(spec, rates, fusion, self.batch_size, dilated))
        allowed = (True, False) if fusion.masker_conv1 is None else (fusion.masker_conv1,)
        options = {
            fused: run(
                dynamic_first_convolution(spec, rates, dilated, fused, fusion, self.batch_size)
            )
            for fused in allowed
        }
        never: _Run = np.full(len(rates), np.inf), []
        together, apart = (options.get(fused, never)[0] for fused in (True, False))
        # Fused where that is predicted to be faster, i.e. r > r_th (Section 3.4).
        return np.minimum(together, apart) + rest, together <= apart, (options, rest_found)

    def _blocks(
        self,
        spec: BlockSpec,
        names: Sequence[str],
        rates: Rates | None,
        dilated: Rates | None,
        fusion: Fusion,
    ) -> list[BlockLatency]:
        """Blocks of one shape under different names and rates."""
        rates = self._check(spec, rates)
        reads = None
        if dilated is not None:
            reads = np.atleast_1d(check_rate(f"block '{spec.name}': dilated_rate", dilated))
        static_found = self._static_schedules(spec, fusion.conv3_add)
        static_operators_ = tuple(_operator_latency(s, 0) for s in static_found)
        static_us = sum(o.total_us for o in static_operators_)
        if spec.granularity is None:
            return [
                BlockLatency(
                    name,
                    spec.stage,
                    1.0,
                    static_us,
                    static_us,
                    None,
                    static_operators_,
                    static_operators_,
                )
                for name in names
            ]
        total, fused, (options, rest) = self._dynamic(spec, rates, reads, fusion)
        return [
            BlockLatency(
                name,
                spec.stage,
                float(rates[i]),
                static_us,
                float(total[i]) * 1e6,
                bool(fused[i]),
                tuple(_operator_latency(s, i) for s in (*options[bool(fused[i])][1], *rest)),
                static_operators_,
            )
            for i, name in enumerate(names)
        ]


def _operator_latency(found: Schedule, index: int) -> OperatorLatency:
    """Row ``index`` of a schedule (its only one where it does not depend on r) in microseconds."""
    row = index if found.total.ndim else ()
    return OperatorLatency(
        found.name,
        float(found.total[row]) * 1e6,
        float(found.data[row]) * 1e6,
        float(found.computation[row]) * 1e6,
        found.launch * 1e6,
        tuple(int(edge) for edge in found.tile[row]),
    )


def _per_block(field: str, rates: ArrayLike, spec: NetworkSpec) -> np.ndarray:
    values = check_rate(field, rates)
    if values.ndim == 0:
        return np.full(len(spec.blocks), float(values))
    if values.shape != (len(spec.blocks),):
        raise ValueError(
            f'{field} has {values.size} values: give one, or one for each of the '
            f"{len(spec.blocks)} blocks of '{spec.name}'"
        )
    return values
