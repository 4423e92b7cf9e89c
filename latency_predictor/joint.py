"""The choice of S_net and G_net at once: patches and channels skipped (LAUDNet)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .model import LatencyModel
from .network import NetworkSpec
from .search import KNEE_TOLERANCE, legal_granularities
from .spec import BlockSpec

CHANNEL_GROUPS = (1, 2, 4, 8, 16)

Pair = tuple[int, int]  # S and G of a stage


@dataclass(frozen=True)
class JointResult:
    """S_net and G_net for one device.

    Attributes:
        device: Its name.
        network: Its name.
        static_ms: Latency of the static network.
        fastest: (S, G) of each stage, the fastest of all.
        recommended: (S, G) of each stage: the finest pair, first in S and then in G, that is within
            the tolerance of the stage's fastest in r_l.
        dynamic_ms: Latency of the recommended network.
        stage_ratios: Per stage, r_l of each pair.
    """

    device: str
    network: str
    static_ms: float
    fastest: tuple[Pair, ...]
    recommended: tuple[Pair, ...]
    dynamic_ms: float
    stage_ratios: tuple[Mapping[Pair, float], ...]

    @property
    def ratio(self) -> float:
        """r_l of the recommended network."""
        return self.dynamic_ms / self.static_ms


def search_joint(
    model: LatencyModel,
    network: NetworkSpec,
    shares: Mapping[str, float],
    granularities: Sequence[Sequence[int]] | None = None,
    channel_groups: Sequence[int] = CHANNEL_GROUPS,
    tolerance: float = KNEE_TOLERANCE,
) -> JointResult:
    """Predict every (S, G) of every stage; stages add up, so that each is chosen by itself.

    A finer S or G leaves masks more freedom, a coarser one is faster.

    Args:
        model: Device, precision and batch size.
        network: Its own decisions are ignored.
        shares: Of ``'sites'`` and ``'channels'``, one for all blocks.
        granularities: S to try per stage; None for ``legal_granularities``.
        channel_groups: G to try; those that divide the inner channels of all blocks of a stage.
        tolerance: What a coarser pair must gain in r_l to be worth it.

    Raises:
        ValueError: If there is nothing to try in a stage, or a share is missing or not in [0, 1].
    """
    tried = legal_granularities(network) if granularities is None else granularities
    stages = sorted({block.stage for block in network.conv_blocks})
    if len(tried) != len(stages):
        raise ValueError(
            f'granularities: got {len(tried)} stages; give the {len(stages)} of {network.name}'
        )
    other = model.layers_us(network)
    times, static = [], []
    for stage, sizes in zip(stages, tried, strict=True):
        counts: dict[BlockSpec, int] = {}
        for block in network.conv_blocks:
            if block.stage == stage:
                shape = model.shape_of(block.static())
                counts[shape] = counts.get(shape, 0) + 1
        static.append(sum(n * model.block(b).static_us for b, n in counts.items()))
        pairs = _pairs(stage, sizes, channel_groups, counts)
        times.append({pair: _stage_us(model, counts, pair, shares) for pair in pairs})
    fastest = tuple(min(stage, key=lambda pair: (stage[pair], pair)) for stage in times)
    recommended = tuple(
        min(pair for pair in stage if stage[pair] <= stage[best] + tolerance * whole)
        for stage, best, whole in zip(times, fastest, static, strict=True)
    )
    chosen = sum(stage[pair] for stage, pair in zip(times, recommended, strict=True))
    return JointResult(
        model.device.name,
        network.name,
        (other + sum(static)) * 1e-3,
        fastest,
        recommended,
        (other + chosen) * 1e-3,
        tuple(
            {pair: time / whole for pair, time in stage.items()}
            for stage, whole in zip(times, static, strict=True)
        ),
    )


def _pairs(
    stage: int, sizes: Sequence[int], channel_groups: Sequence[int], blocks: Iterable[BlockSpec]
) -> list[Pair]:
    """Every (S, G) that all blocks of a stage can have."""
    widths = [block.inner_channels for block in blocks]
    groups = [g for g in channel_groups if g > 0 and not any(width % g for width in widths)]
    if not groups or not sizes:
        raise ValueError(
            f'channel_groups: got {tuple(channel_groups)!r}; give divisors of the inner channels '
            f'of stage {stage + 1}'
        )
    return [(size, group) for size in sizes for group in groups]


def _stage_us(
    model: LatencyModel, counts: Mapping[BlockSpec, int], pair: Pair, shares: Mapping[str, float]
) -> float:
    """Microseconds of all blocks of a stage; those without a shortcut skip channels alone."""
    total = 0.0
    for block, count in counts.items():
        size = None if block.join == 'none' else pair[0]
        decided = replace(block, granularity=size, channel_group=pair[1])
        total += count * model.block(decided, shares).dynamic_us
    return total
