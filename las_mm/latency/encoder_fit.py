"""Predicted latency of encoder layers as a differentiable function of their shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from latency_predictor import EncoderSpec, LatencyModel, NetworkSpec

from .rate_table import RateTable, fit_table

HALVES = ('attention', 'mlp')


@dataclass(frozen=True)
class EncoderFit:
    """Latency of the encoder layers of one shape, ℓ = f + a·A(n, h) + m·M(n, h).

    n and h are the shares of tokens and heads, a and m the probabilities that attention and MLP
    run; f always runs: policies, and the norm that the policy of tokens reads.

    Attributes:
        blocks: Their places in the network.
        layer: The layer.
        always: f(n, h), microseconds.
        halves: f + A and f + M.
        static_us: Latency of the static layer.
    """

    blocks: tuple[int, ...]
    layer: EncoderSpec
    always: RateTable
    halves: tuple[RateTable, RateTable]
    static_us: float

    def __call__(self, shares: Sequence[Mapping[str, Tensor]], one: Tensor) -> Tensor:
        """Microseconds (n,), in double precision; differentiable.

        Args:
            shares: Of n layers, scalars by their names.
            one: 1, what a share is that a layer does not decide on.
        """
        found = {
            name: torch.stack([part.get(name, one) for part in shares]).double()
            for name in ('tokens', 'heads', *HALVES)
        }
        rates = found['tokens'], found['heads']
        total = always = self.always(*rates)
        for name, table in zip(HALVES, self.halves, strict=True):
            total = total + found[name] * (table(*rates) - always)
        return total

    def to(self, device: torch.device) -> 'EncoderFit':
        """The same on a device."""
        first, second = (table.to(device) for table in self.halves)
        return replace(self, always=self.always.to(device), halves=(first, second))

    def tried(
        self, model: LatencyModel, tries: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The fit's and the predictor's microseconds at random shares."""
        lattices = {'tokens': _lattice(self.layer.tokens), 'heads': _lattice(self.layer.heads)}
        shares = {
            name: generator.choice(lattices[name], tries)
            if name in lattices
            else generator.random(tries)
            for name in sorted(self.layer.decided)
        }
        true = model.curve(self.layer, shares).dynamic_us
        cases = [
            {name: torch.tensor(s[case]) for name, s in shares.items()} for case in range(tries)
        ]
        return self(cases, torch.ones((), dtype=torch.float64)).numpy(), true


def fit_encoder(model: LatencyModel, layer: EncoderSpec, where: tuple[int, ...]) -> EncoderFit:
    """Fit the latency of a dynamic encoder layer.

    Args:
        model: The predictor.
        layer: The layer.
        where: The places in the network of the layers of this shape.
    """
    decided = layer.decided
    tokens = _lattice(layer.tokens) if 'tokens' in decided else np.array([0.0, 1.0])
    heads = _lattice(layer.heads) if 'heads' in decided else np.array([0.0, 1.0])
    whole = replace(layer, policies=tuple({**dict.fromkeys(layer.policies), 'blocks': None}))
    # Of a layer that does not decide on its halves these always run, without a policy for them.
    policy = 0.0 if 'attention' in decided else _policy_us(model, layer, whole)

    def table(attention: float, mlp: float) -> RateTable:
        halves = {'attention': attention, 'mlp': mlp}
        return fit_table(partial(_predict, model, whole, policy, halves), tokens, heads)

    return EncoderFit(
        where,
        layer,
        table(0, 0),
        (table(1, 0), table(0, 1)),
        model.block(layer.static()).static_us,
    )


def _policy_us(model: LatencyModel, layer: EncoderSpec, whole: EncoderSpec) -> float:
    """Microseconds of the policy that ``whole`` has and ``layer`` has not."""
    both = (model.curve(part, 1.0).dynamic_us[0] for part in (whole, layer))
    return next(both) - next(both)


def _lattice(count: int) -> np.ndarray:
    """The shares that the predictor tells apart: those of whole tokens or heads."""
    return np.arange(count + 1) / count


def _predict(
    model: LatencyModel,
    layer: EncoderSpec,
    policy: float,
    halves: Mapping[str, float],
    tokens: np.ndarray,
    heads: np.ndarray,
) -> np.ndarray:
    """The predictor's microseconds at shares (n,) of tokens and heads, less those of a policy."""
    ones = np.ones(len(tokens))
    shares = {'tokens': tokens, 'heads': heads}
    shares |= {name: value * ones for name, value in halves.items()}
    return model.curve(layer, shares).dynamic_us - policy


def uniform_encoder_shares(network: NetworkSpec, rate: float) -> list[dict[str, Tensor]]:
    """Shares of each layer if those that are decided on are all the same.

    Args:
        network: A transformer.
        rate: Part of the layers that is computed; each of several policies takes the same part of
            it, t^(1/policies).
    """
    policies = {policy for block in network.blocks for policy in getattr(block, 'policies', ())}
    share = torch.tensor(rate ** (1 / len(policies)))
    return [dict.fromkeys(sorted(block.decided), share) for block in network.blocks]
