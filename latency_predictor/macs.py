"""Multiply-accumulates F_stat and F_dyn, and the rate at which their ratio meets a target t.

As in training: every layer counts its MACs times the shares that it runs at, as far as the block
decides on them; maskers, a shortcut, stem and head count in full.
"""

import functools
from dataclasses import dataclass
from math import prod

from .encoder_spec import EncoderSpec
from .network import AnyBlock, NetworkSpec
from .rates import Shares, block_dilated_rate, named_shares
from .spec import BRANCH, CHANNELS, DILATED, SITES, BlockSpec

# A masker has a keep and a skip logit for each decision.
LOGITS = 2
SQUEEZE_KERNEL = 3  # of DynConv's masker, which has one logit
# Inner width of a channel masker: a share of its decisions, but not fewer than these.
CHANNEL_REDUCTION, LEAST_HIDDEN = 16, 16


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates for one image: the static and the dynamic network."""

    static: float
    dynamic: float

    @property
    def ratio(self) -> float:
        """F_dyn / F_stat."""
        return self.dynamic / self.static


def channel_masker_widths(block: BlockSpec) -> tuple[int, int]:
    """Hidden channels and outputs of the perceptron that decides on channels."""
    groups = block.inner_channels // (block.channel_group or block.inner_channels)
    return max(groups // CHANNEL_REDUCTION, LEAST_HIDDEN), LOGITS * groups


def masker_macs(block: BlockSpec) -> int:
    """MACs of all that decides for a block: the means of its input and what is made of them."""
    pooling, macs = block.in_channels * prod(block.input_size), 0
    if SITES in block.decided and block.masker == 'squeeze':
        macs += pooling + block.in_channels * (SQUEEZE_KERNEL**2 * prod(block.grid) + 1)
    elif {SITES, BRANCH} & block.decided:
        macs += pooling + LOGITS * block.in_channels * prod(block.grid)
    if CHANNELS in block.decided:
        hidden, outputs = channel_masker_widths(block)
        macs += pooling + hidden * (block.in_channels + outputs)
    return macs


def block_macs(block: AnyBlock, shares: Shares = 1.0) -> Macs:
    """F_stat and F_dyn of a block, as Σ MACs · Π shares.

    Args:
        block: The block.
        shares: As for :meth:`~latency_predictor.LatencyModel.block`; numbers. ``'dilated'`` left
            out is :func:`~latency_predictor.expected_dilated_rate`.
    """
    found = {name: float(share[0]) for name, share in named_shares(block, shares).items()}
    if isinstance(block, EncoderSpec):
        parts = (macs * prod(found.get(name, 1.0) for name in at) for macs, at in block.works)
        return Macs(block.macs, sum(parts) + block.masker_macs)
    layers = (*block.layers, *block.shortcut)
    if SITES in found:
        found.setdefault(DILATED, float(block_dilated_rate(block, found[SITES])))
    dynamic = sum(
        layer.macs * prod(found[name] for name in layer.runs_at if name in found)
        for layer in layers
    )
    return Macs(sum(layer.macs for layer in layers), dynamic + masker_macs(block))


def network_macs(network: NetworkSpec, shares: Shares = 1.0) -> Macs:
    """F_stat and F_dyn of a network; shares as for ``LatencyModel.network``."""
    cases = network.shares_of_blocks(shares)
    outside = sum(layer.macs for layer in network.fixed)
    blocks = [block_macs(*pair) for pair in zip(network.blocks, cases, strict=True)]
    return Macs(outside + sum(b.static for b in blocks), outside + sum(b.dynamic for b in blocks))


@functools.lru_cache(maxsize=256)
def rate_for_macs_ratio(network: NetworkSpec, target: float) -> float:
    """The activation rate r, one for all decisions, at which F_dyn / F_stat is ``target``.

    Raises:
        ValueError: If no r in [0, 1] reaches the target; the message gives the reachable range.
    """
    low, high = network_macs(network, 0.0).ratio, network_macs(network, 1.0).ratio
    if not low <= target <= high:
        raise ValueError(
            f'macs_ratio: got {target:g}; give one from {low:.3f} to {high:.3f} for {network.name}'
        )
    below, above = 0.0, 1.0
    for _ in range(50):
        middle = (below + above) / 2
        if network_macs(network, middle).ratio < target:
            below = middle
        else:
            above = middle
    return (below + above) / 2
