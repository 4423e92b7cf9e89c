"""Choose S_net for a config's own backbone: predicted latency guides the design (Sec. 4.2)."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from las_mm.config_parts import class_of, type_name
from las_mm.files import write_whole
from las_mm.models.backbone import DynamicBackbone, find_backbone
from las_mm.ops import format_granularity
from latency_predictor import LatencyModel, NetworkSpec
from latency_predictor.search import KNEE_TOLERANCE, SearchResult, search_granularity

from .description import require_description

GRANULARITY = tuple[int, ...]


def configured_network(cfg: Config, input_size: tuple[int, int]) -> NetworkSpec:
    """The config's backbone as the predictor sees it at (H, W); its weights are not loaded.

    It may be inside of another model, as in semi-supervised detectors, and of any class.

    Raises:
        ValueError: If the backbone is not a dynamic one.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    _, part, kind = _dynamic_backbone(cfg)
    backbone: dict[str, Any] = {**part, 'type': kind}
    accepted = signature(kind).parameters.values()
    rest = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in accepted)
    names = {parameter.name for parameter in accepted}
    if rest or 'init_cfg' in names:
        backbone['init_cfg'] = None
    if (rest or 'granularity' in names) and not _chooses_granularity(kind):
        # Which S the config has does not matter here, so that it may leave it out.
        backbone.setdefault('granularity', '-'.join('1' * backbone.get('num_stages', 4)))
    return require_description(find_backbone(MODELS.build(backbone)), input_size)


def _chooses_granularity(kind: type) -> bool:
    """Whether a backbone needs no S_net: it has one for its stages, or no such option."""
    defaults = [
        signature(vars(part)['__init__']).parameters.get('granularity')
        for part in kind.__mro__
        if '__init__' in vars(part)
    ]
    own = next((default for default in defaults if default is not None), None)
    return own is None or own.default is None


def _dynamic_backbone(cfg: Config) -> tuple[list[str], Mapping, type]:
    """The keys that lead to the first dynamic backbone of a config, its options and its class."""
    found = list(_backbones(cfg.get('model'), ['model']))
    if not found:
        raise ValueError('model: the config has no backbone in it; give one with a dynamic one')
    for keys, part in found:
        kind = class_of(cfg, part, MODELS)
        if isinstance(kind, type) and issubclass(kind, DynamicBackbone):
            return keys, part, kind
    keys, part = found[0]
    raise ValueError(
        f'{".".join(keys)}.type: {type_name(part)!r} is static; give a config with a dynamic one, '
        'such as LASResNet'
    )


def _backbones(part: Any, keys: list[str]) -> Iterator[tuple[list[str], Mapping]]:
    """The backbones in a model's description and the keys to them, those of inner models last."""
    if not isinstance(part, Mapping):
        return
    own = part.get('backbone')
    if isinstance(own, Mapping) and own.get('type'):
        yield [*keys, 'backbone'], own
    for key, inside in part.items():
        if key != 'init_cfg':
            yield from _backbones(inside, [*keys, key])


@dataclass(frozen=True)
class Choice:
    """One S_net over several devices.

    Attributes:
        granularity: S per stage.
        dynamic_ms: Predicted latency per device.
        ratios: r_ℓ per device.
        ranks: Place among all candidates per device, 1 is the fastest.
        pareto: Whether no other S_net is as fast on every device and faster on one.
        knee: Whether it is the recommended one.
    """

    granularity: GRANULARITY
    dynamic_ms: tuple[float, ...]
    ratios: tuple[float, ...]
    ranks: tuple[int, ...]
    pareto: bool
    knee: bool

    @property
    def label(self) -> str:
        return format_granularity(self.granularity)


def rank_granularities(
    network: NetworkSpec,
    models: Sequence[LatencyModel],
    rate: float,
    candidates: Sequence[Sequence[int]] | None = None,
) -> tuple[list[Choice], list[SearchResult]]:
    """Every S_net with its latency on every device, best mean r_ℓ first.

    Args:
        network: The backbone; its own granularities are ignored.
        models: One per device.
        rate: r of every block.
        candidates: S to try in each stage; by default those that cut its map into whole patches.

    Returns:
        The ranking and what the predictor's search found per device.
    """
    searches = [search_granularity(model, network, rate, candidates) for model in models]
    found = [{c.granularity: (c, i) for i, c in enumerate(s.ranked, 1)} for s in searches]
    sizes = list(found[0])
    ratios = np.array([[device[size][0].ratio for device in found] for size in sizes])
    pareto = dict(zip(sizes, pareto_front(ratios), strict=True))
    knee = shared_knee(searches)
    choices = [
        Choice(
            size,
            dynamic_ms=tuple(device[size][0].dynamic_ms for device in found),
            ratios=tuple(device[size][0].ratio for device in found),
            ranks=tuple(device[size][1] for device in found),
            pareto=bool(pareto[size]),
            knee=size == knee,
        )
        for size in sizes
    ]
    return sorted(choices, key=lambda c: (sum(c.ratios), c.granularity)), searches


def pareto_front(costs: np.ndarray) -> np.ndarray:
    """(n,) bool: rows of ``costs`` (n, devices) that no other row dominates; lower is better."""
    as_good = (costs[:, None] <= costs[None]).all(-1)
    better = (costs[:, None] < costs[None]).any(-1)
    return ~(as_good & better).any(0)


def shared_knee(searches: Sequence[SearchResult], tolerance: float = KNEE_TOLERANCE) -> GRANULARITY:
    """Per stage the smallest S whose r_ℓ no larger S lowers by much, on any device (Sec. 4.2)."""

    def is_enough(stage: int, size: int) -> bool:
        ratios = [search.stage_ratios[stage] for search in searches]
        return all(r[size] - min(r[s] for s in r if s >= size) <= tolerance for r in ratios)

    stages = enumerate(searches[0].stage_ratios)
    return tuple(next(s for s in sorted(sizes) if is_enough(i, s)) for i, sizes in stages)


def write_config(base: str | Path, target: str | Path, granularity: GRANULARITY, why: str) -> None:
    """Write a config that inherits from ``base`` and sets S_net; whole or not at all.

    One of a base in pure Python, whose types are classes, cannot inherit from it by name, and holds
    the whole of it.

    Raises:
        FileNotFoundError: If the target's folder does not exist.
        ValueError: If the target exists, or is not a Python file.
    """
    target = Path(target)
    if target.suffix != '.py':
        raise ValueError(f'--write: got {str(target)!r}; a config ends in .py')
    if not target.parent.is_dir():
        raise FileNotFoundError(f'--write: no folder {str(target.parent)!r}; create it first')
    if target.exists():
        raise ValueError(f'--write: {str(target)!r} exists; name another file, or remove it')
    label = format_granularity(granularity)
    cfg = Config.fromfile(base)
    keys, _, _ = _dynamic_backbone(cfg)
    if Config._is_lazy_import(str(base)):
        cfg.merge_from_dict({'.'.join([*keys, 'granularity']): label})
        text = f'# {why}\n{cfg.pretty_text}'
    else:
        inherited = Path(os.path.relpath(Path(base).resolve(), target.parent.resolve())).as_posix()
        inside = f'granularity={label!r}'
        for key in reversed(keys):
            inside = f'{key}=dict({inside})'
        text = f'# {why}\n_base_ = {inherited!r}\n\n{inside.replace("=", " = ", 1)}\n'
    write_whole(target, text)
