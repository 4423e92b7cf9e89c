"""Multiply-accumulates F_stat and F_dyn, and the rate at which their ratio meets a target t.

As in training: conv1 counts at the dilated rate, the other convolutions at r, a shortcut, stem and
head in full, the masker's pooling and its 1x1 convolution (2 logits per patch) as they are.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .rates import check_rate, expected_dilated_rate
from .spec import BlockSpec, NetworkSpec

__all__ = ['Macs', 'block_macs', 'network_macs', 'rate_for_macs_ratio']


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates for one image: the static and the dynamic network."""

    static: float
    dynamic: float

    @property
    def ratio(self) -> float:
        """F_dyn / F_stat."""
        return self.dynamic / self.static


def block_macs(
    block: BlockSpec, activation_rate: float = 1.0, dilated_rate: float | None = None
) -> Macs:
    """F_stat and F_dyn of a block; dilated_rate None is ``expected_dilated_rate``."""
    area, (rows, columns) = block.height * block.width, block.conv1_map
    kernel, stride, dilation = block.conv2
    conv1 = block.in_channels * block.mid_channels * rows * columns * block.conv1[0] ** 2
    rest = block.mid_channels**2 // block.groups * kernel**2 * area
    if block.kind == 'bottleneck':
        rest += block.mid_channels * block.out_channels * area
    dense = 2 * block.mid_channels * block.se_channels
    dense += block.in_channels * block.out_channels * area if block.shortcut else 0
    static = conv1 + rest + dense
    if block.granularity is None:
        return Macs(static, static)
    if dilated_rate is None:
        dilated_rate = float(
            expected_dilated_rate(activation_rate, block.granularity, stride, dilation)
        )
    masker = block.in_channels * int(np.prod(block.source) + 2 * np.prod(block.grid))
    return Macs(static, conv1 * dilated_rate + rest * activation_rate + dense + masker)


def network_macs(
    network: NetworkSpec, activation_rates: ArrayLike = 1.0, dilated_rates: ArrayLike | None = None
) -> Macs:
    """F_stat and F_dyn of a network; rates as in ``LatencyModel.network``."""
    count = len(network.blocks)
    rates = np.broadcast_to(check_rate('activation_rates', activation_rates), count)
    dilated = (
        [None] * count
        if dilated_rates is None
        else np.broadcast_to(check_rate('dilated_rates', dilated_rates), count)
    )
    outside = sum(layer.macs for layer in (*network.stem, *network.head))
    blocks = [block_macs(*triple) for triple in zip(network.blocks, rates, dilated, strict=True)]
    return Macs(outside + sum(b.static for b in blocks), outside + sum(b.dynamic for b in blocks))


@functools.lru_cache(maxsize=256)
def rate_for_macs_ratio(network: NetworkSpec, target: float) -> float:
    """The activation rate r, one for all blocks, at which F_dyn / F_stat is ``target``.

    Raises:
        ValueError: a target that no r in [0, 1] reaches; the message gives the reachable range.
    """
    low, high = network_macs(network, 0.0).ratio, network_macs(network, 1.0).ratio
    if not low <= target <= high:
        raise ValueError(
            f'macs_ratio is {target:g}: {network.name} can reach {low:.3f} to {high:.3f}'
        )
    below, above = 0.0, 1.0
    for _ in range(50):
        middle = (below + above) / 2
        if network_macs(network, middle).ratio < target:
            below = middle
        else:
            above = middle
    return (below + above) / 2
