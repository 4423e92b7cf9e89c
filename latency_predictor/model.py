"""Latency of blocks and networks: l = g(H, P, S, r) (Section 3.3)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from . import encoder
from .block import layer_operator, static_operators
from .checks import require_integer, require_one_of
from .deciding import in_mode
from .device import Device, load_device
from .encoder_spec import EncoderSpec
from .fusion import DEFAULT_FUSION, Fusion
from .network import AnyBlock, AnyLayer, NetworkSpec
from .operators.operator import Operator
from .rates import Shares, named_shares
from .results import BlockCurve, BlockLatency, NetworkLatency
from .runs import BlockRun, dynamic_runs, operator_latency
from .schedule import TILE_SETS, Schedule, schedule
from .spec import ATTENTION, BRANCH, CHANNELS, HEADS, SITES, TOKENS, BlockSpec

Block = TypeVar('Block', bound=BlockSpec | EncoderSpec)
# Which share a report calls the activation rate, if it is decided on.
COARSEST = (SITES, BRANCH, TOKENS, CHANNELS, HEADS, ATTENTION)


class LatencyModel:
    """The latency predictor for one device, precision and batch size.

    Args:
        device: Device, name of a shipped one, or path of a device file.
        precision: ``'fp32'``, ``'tf32'``, ``'fp16'`` or ``'bf16'``, as far as the device has it.
        batch_size: Images per forward; latencies are for the whole batch.
        tiles: ``'paper'`` (powers of two, Appendix A) or ``'divisors'`` (also exact divisors); None
            is what the device file says, the paper's unless ``any_tile`` is set.

    Raises:
        FileNotFoundError: If the device's file does not exist.
        ValueError: If an argument is not one of the allowed ones.
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
        require_integer('batch_size', batch_size, 1)
        if tiles is None:
            tiles = 'divisors' if self.device.any_tile else 'paper'
        require_one_of('tiles', tiles, TILE_SETS)
        self.precision, self.batch_size, self.tiles = precision, batch_size, tiles
        self._static: dict[tuple[AnyBlock, bool], tuple[Schedule, ...]] = {}

    def block(
        self, spec: AnyBlock, shares: Shares = None, fusion: Fusion = DEFAULT_FUSION
    ) -> BlockLatency:
        """Latency of one block with a breakdown by operator.

        Args:
            spec: The block.
            shares: How much of its work runs, by name, in [0, 1]: ``'sites'`` (r, of the output's
                pixels), ``'channels'`` (of the inner ones) and ``'branch'`` (the probability that
                the block runs), as far as the block decides on them; of an encoder layer
                ``'tokens'``, ``'heads'``, ``'attention'`` and ``'mlp'``; a number is all of these.
                ``'dilated'`` is the share of the pixels that conv1 computes where it is not fused
                with the masker; left out, every active patch has its own halo, and overlaps are
                computed twice (what a gathering kernel does), i.e. r ((sS + halo) / sS)^2.
                May be None for a static block only.
            fusion: Which operators share a kernel.

        Raises:
            ValueError: If a share is not in [0, 1], unknown, or missing in a dynamic block.
        """
        return self._blocks(spec, [spec.name], shares, fusion)[0]

    def curve(self, spec: AnyBlock, shares: Shares, fusion: Fusion = DEFAULT_FUSION) -> BlockCurve:
        """One dynamic block at many shares, in one vectorised search.

        Args:
            spec: The block.
            shares: As for :meth:`block`; numbers or arrays (R,).
            fusion: Which operators share a kernel.
        """
        given = named_shares(spec, shares)
        static = sum(float(s.total) for s in self._static_schedules(spec, fusion.conv3_add))
        total = np.zeros(len(main_share(given)))
        fused = np.zeros(len(total), bool)
        for run in self._dynamic_runs(spec, given, fusion):
            total[run.cases], fused[run.cases] = run.total, run.fused
        return BlockCurve(main_share(given), static * 1e6, total * 1e6, fused)

    def network(
        self, spec: NetworkSpec, shares: Shares = 1.0, fusion: Fusion = DEFAULT_FUSION
    ) -> NetworkLatency:
        """Latency of a network: stem, blocks and head.

        Args:
            spec: The network.
            shares: As for :meth:`block`; each a number for all blocks, or one per block.
            fusion: Which operators share a kernel.

        Raises:
            ValueError: If a share is not in [0, 1], or there are not as many as blocks.
        """
        cases = spec.shares_of_blocks(shares)
        alike: dict[AnyBlock, list[int]] = {}
        for index, block in enumerate(spec.blocks):
            alike.setdefault(self.shape_of(block), []).append(index)
        blocks: list = [None] * len(spec.blocks)
        for block, where in alike.items():
            names = [spec.blocks[i].name for i in where]
            found = self._blocks(block, names, _stacked([cases[i] for i in where]), fusion)
            for index, latency in zip(where, found, strict=True):
                blocks[index] = latency
        other = self.layers_us(spec)
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
        """The block as it would be if it skipped something else, at one rate for all it decides on.

        Args:
            spec: The block.
            rate: In [0, 1].
            mode: ``'spatial'``, ``'layer'``, ``'channel'`` or ``'joint'``.
            channel_group: Channels per decision.

        Raises:
            ValueError: If an argument is not one of the allowed ones.
        """
        return self.block(in_mode(spec, mode, channel_group), rate)

    def layers_us(self, spec: NetworkSpec) -> float:
        """Microseconds of all that is in no block."""
        operators = [o for layer in spec.fixed for o in self._layer_operators(layer)]
        return sum(float(self.schedule(operator).total) for operator in operators) * 1e6

    def _layer_operators(self, layer: AnyLayer) -> list[Operator]:
        if isinstance(layer, EncoderSpec):
            return encoder.static_operators(layer, self.batch_size)
        return [layer_operator(layer, self.batch_size)]

    @staticmethod
    def shape_of(block: Block) -> Block:
        """The block without its name: all that its latency depends on."""
        return replace(block, name=f'stage {block.stage}')

    def schedule(self, operator: Operator) -> Schedule:
        """The operator with its best tile."""
        return schedule(operator, self.device, self.precision, self.tiles)

    def _dynamic_runs(
        self, spec: AnyBlock, shares: dict[str, np.ndarray], fusion: Fusion
    ) -> list[BlockRun]:
        if isinstance(spec, EncoderSpec):
            return encoder.dynamic_runs(spec, shares, self.batch_size, self.schedule)
        return dynamic_runs(spec, shares, fusion, self.batch_size, self.schedule)

    def _static_schedules(self, spec: AnyBlock, conv3_add: bool = False) -> tuple[Schedule, ...]:
        shape = self.shape_of(spec).static()
        key = shape, conv3_add
        if key not in self._static:
            if isinstance(shape, EncoderSpec):
                operators = encoder.static_operators(shape, self.batch_size)
            else:
                operators = static_operators(shape, self.batch_size, conv3_add)
            self._static[key] = tuple(self.schedule(operator) for operator in operators)
        return self._static[key]

    def _blocks(
        self, spec: AnyBlock, names: Sequence[str], shares: Shares, fusion: Fusion
    ) -> list[BlockLatency]:
        """Blocks of one shape under different names and shares."""
        given = named_shares(spec, shares)
        static = tuple(
            operator_latency(found) for found in self._static_schedules(spec, fusion.conv3_add)
        )
        static_us = sum(operator.total_us for operator in static)
        if not given:
            return [
                BlockLatency(name, spec.stage, 1.0, static_us, static_us, None, static, static)
                for name in names
            ]
        result: list = [None] * len(names)
        for run in self._dynamic_runs(spec, given, fusion):
            for index, case in enumerate(run.cases):
                result[case] = BlockLatency(
                    names[case],
                    spec.stage,
                    float(main_share(given)[case]),
                    static_us,
                    float(run.total[index]) * 1e6,
                    bool(run.fused[index]) if run.first else None,
                    run.operators(index),
                    static,
                    {name: float(share[case]) for name, share in given.items()},
                )
        return result


def main_share(shares: dict[str, np.ndarray]) -> np.ndarray:
    """(R,) of the coarsest decision that there is: what a report calls the activation rate."""
    return next(shares[name] for name in COARSEST if name in shares)


def _stacked(cases: Sequence[dict[str, float] | float | None]) -> Shares:
    """Shares of several blocks as one array (R,) for each name."""
    named = [case for case in cases if isinstance(case, dict)]
    if named:
        return {name: np.array([case[name] for case in named]) for name in named[0]}
    return None if cases[0] is None else np.array(cases, float)
