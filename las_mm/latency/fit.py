"""Predicted latency as a differentiable function of every block's rates (Sec. 3.3).

The predictor searches tiles and counts whole patches, so that its latency is a table of steps. Here
it becomes piecewise linear: a few of its entries are knots, between which it is interpolated in the
activation rate r, the dilated rate, and the share of channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from las_mm.losses import start_rate
from latency_predictor import BlockSpec, EncoderSpec, Fusion, LatencyModel, NetworkSpec
from latency_predictor.network import AnyBlock
from latency_predictor.rates import block_dilated_rate

from .encoder_fit import EncoderFit, fit_encoder, uniform_encoder_shares
from .rate_table import RateTable, fit_table, interval

# Shares of channels between which latency is interpolated.
CHANNEL_KNOTS = tuple(index / 16 for index in range(17))
# Dilated rates that may become knots.
DILATED = np.linspace(0, 1, 129)

Shares = Mapping[str, Tensor]


@dataclass(frozen=True)
class BlockFit:
    """Latency of the blocks of one shape: the better of masker and conv1 fused or not (Sec. 3.4).

    Attributes:
        blocks: Their places in the network.
        options: For each share of ``channels`` a table with the masker fused into conv1, and one
            without.
        static_us: Latency of the static block.
        channels: (C,) ascending shares of channels, from 0 to 1; (1,) for a block that skips none.
    """

    blocks: tuple[int, ...]
    options: tuple[tuple[RateTable, RateTable], ...]
    static_us: float
    channels: Tensor

    def __call__(self, shares: Sequence[Shares], one: Tensor) -> Tensor:
        """Microseconds (n,), in double precision; differentiable.

        Args:
            shares: Of n blocks, scalars by their names.
            one: 1, what a share is that a block does not decide on.
        """
        active = [part.get('sites', part.get('branch', one)) for part in shares]
        dilated = [part.get('dilated', rate) for part, rate in zip(shares, active, strict=True)]
        channels = [part.get('channels', one) for part in shares]
        return self.at(*map(torch.stack, (active, dilated, channels)))

    def at(self, activation_rate: Tensor, dilated_rate: Tensor, channel_rate: Tensor) -> Tensor:
        """Microseconds (n,) at rates (n,), in double precision; differentiable."""
        rates = activation_rate, dilated_rate
        values = torch.stack([torch.minimum(*(t(*rates) for t in pair)) for pair in self.options])
        if len(values) == 1:
            return values[0]
        index, along = interval(self.channels, channel_rate.double())
        low, high = (values.gather(0, i[None])[0] for i in (index, index + 1))
        return torch.lerp(low, high, along)

    def to(self, device: torch.device) -> 'BlockFit':
        """The same on a device."""
        options = tuple((one.to(device), other.to(device)) for one, other in self.options)
        return replace(self, options=options, channels=self.channels.to(device))


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
    fits: tuple[BlockFit | EncoderFit, ...]
    other_us: float
    static_us: float
    error: float = float('nan')
    block_error: float = float('nan')

    def blocks_us(self, shares: Sequence[Shares]) -> Tensor:
        """Microseconds of each block, (blocks,), at the shares of each, scalars by their names."""
        one = next(iter(next(part for part in shares if part).values())).new_ones(())
        where = torch.tensor([index for fit in self.fits for index in fit.blocks])
        parts = [fit([shares[index] for index in fit.blocks], one) for fit in self.fits]
        return torch.cat(parts)[torch.argsort(where).to(one.device)].to(one.dtype)

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
        fits = [fit.to(device) for fit in self.fits]
        return replace(self, fits=tuple(fits))


def fit_latency(model: LatencyModel, network: NetworkSpec, tries: int = 64) -> LatencyFit:
    """Fit a network's latency on a device, and measure the fit's error.

    Args:
        model: The predictor.
        network: The network.
        tries: Number of random rates per block at which the fit is held against the predictor.
    """
    shapes: dict[AnyBlock, list[int]] = {}
    for index, block in enumerate(network.blocks):
        shapes.setdefault(model.shape_of(block), []).append(index)
    fits = tuple(
        fit_encoder(model, block, tuple(where))
        if isinstance(block, EncoderSpec)
        else _fit_block(model, block, tuple(where))
        for block, where in shapes.items()
    )
    whole = model.network(network, 1.0)
    fit = LatencyFit(model.device.name, fits, whole.other_us, whole.static_ms * 1e3)
    error, block_error = _errors(fit, model, network, tries)
    return replace(fit, error=error, block_error=block_error)


def uniform_shares(network: NetworkSpec, rate: float) -> list[dict[str, Tensor]]:
    """Shares of each block if every one of a kind is the same, and dilated as expected.

    Args:
        network: The network.
        rate: Part of the blocks that is computed; of patches and channels as
            :func:`~las_mm.losses.start_rate` gives them.
    """
    if network.is_transformer:
        return uniform_encoder_shares(network, rate)
    blocks = network.conv_blocks
    patches = any(block.granularity is not None for block in blocks)
    groups = any(block.channel_group is not None for block in blocks)
    active, channels = (start_rate(rate, axis, patches + groups) for axis in ('sites', 'channels'))
    shares = []
    for block in blocks:
        whole = block.granularity == 'all'
        found = {}
        if block.granularity is not None:
            dilated = active if whole else float(block_dilated_rate(block, active))
            found = {'sites': torch.tensor(active), 'dilated': torch.tensor(dilated)}
        if block.channel_group is not None:
            found['channels'] = torch.tensor(channels)
        shares.append(found)
    return shares


def _fit_block(model: LatencyModel, block: BlockSpec, where: tuple[int, ...]) -> BlockFit:
    patches = _patch_rates(block)
    shares = (1.0,) if block.channel_group is None else CHANNEL_KNOTS
    dilated = np.array([0.0, 1.0]) if block.granularity in (None, 'all') else DILATED
    options = []
    for share in shares:
        fused, separate = (
            fit_table(partial(_predict, model, block, fused, share), patches, dilated)
            for fused in (True, False)
        )
        options.append((fused, separate))
    static = model.block(block.static()).static_us
    return BlockFit(where, tuple(options), static, torch.tensor(shares, dtype=torch.float64))


def _patch_rates(block: BlockSpec) -> np.ndarray:
    """The activation rates that the predictor tells apart: those of whole patches.

    Between two neighbours its latency jumps, because it rounds up; the fit joins them.
    """
    rows, columns = block.grid
    return np.arange(rows * columns + 1) / (rows * columns)


def _predict(
    model: LatencyModel,
    block: BlockSpec,
    fused: bool,
    channels: np.ndarray | float,
    activation: np.ndarray,
    dilated: np.ndarray,
) -> np.ndarray:
    """The predictor's microseconds at rates (n,), in one vectorised search."""
    blocks = tuple(replace(block, name=str(index)) for index in range(len(activation)))
    fusion = Fusion(masker_conv1=fused)
    network = NetworkSpec(block.name, block.input_size, blocks)
    shares = {'sites': activation, 'branch': activation, 'dilated': dilated}
    if block.channel_group is not None:
        shares['channels'] = np.broadcast_to(channels, activation.shape)
    found = model.network(network, shares, fusion).blocks
    return np.array([latency.dynamic_us for latency in found])


def _errors(
    fit: LatencyFit, model: LatencyModel, network: NetworkSpec, tries: int
) -> tuple[float, float]:
    """Largest relative error of the network and of a block at random numbers of patches."""
    generator = np.random.default_rng(0)
    sums, worst = np.zeros((2, tries)), 0.0
    for part in fit.fits:
        if isinstance(part, EncoderFit):
            ours, true = part.tried(model, tries, generator)
        else:
            ours, true = _tried(part, model, network, tries, generator)
        worst = max(worst, float(np.abs(ours / true - 1).max()))
        sums += len(part.blocks) * np.stack([ours, true])
    ours, true = sums + fit.other_us
    return float(np.abs(ours / true - 1).max()), worst


def _tried(
    part: BlockFit,
    model: LatencyModel,
    network: NetworkSpec,
    tries: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """The fit's and the predictor's microseconds at random shares."""
    block = model.shape_of(network.conv_blocks[part.blocks[0]])
    activation = generator.choice(_patch_rates(block), tries)
    # At S = 1 a patch with its halo covers nine pixels, but halos overlap.
    highest = np.minimum(1, 3 * activation)
    dilated = activation + generator.random(tries) * (highest - activation)
    channels = generator.random(tries) if block.channel_group is not None else np.ones(tries)
    rates = channels, activation, dilated
    true = np.minimum(*(_predict(model, block, fused, *rates) for fused in (True, False)))
    return part.at(*map(torch.tensor, (activation, dilated, channels))).numpy(), true
