"""Which operators an encoder layer runs, static and dynamic (AdaViT, LAUDNet).

Kept tokens are gathered, so that all products are of fewer rows; the matrices of a layer whose
heads are skipped are narrower; attention and MLP run with a probability each.
"""

from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from . import operators as ops
from .encoder_spec import BLOCKS, EncoderSpec
from .operators.operator import Operator
from .runs import BlockRun, Run, Scheduler
from .spec import ATTENTION, HEADS, MLP, TOKENS


@dataclass(frozen=True)
class Parts:
    """Operators of a layer: what always runs, and its two halves."""

    always: list[Operator]
    attention: list[Operator]
    mlp: list[Operator]


def static_operators(spec: EncoderSpec, batch_size: int = 1) -> list[Operator]:
    """The layer without decisions."""
    parts = operators_of(spec.static(), spec.tokens, spec.heads, batch_size)
    return parts.always + parts.attention + parts.mlp


def dynamic_runs(
    spec: EncoderSpec, shares: dict[str, np.ndarray], batch_size: int, schedule: Scheduler
) -> list[BlockRun]:
    """The layer at (R,) shares of each name; an entry for each number of tokens and heads.

    Args:
        spec: A dynamic layer.
        shares: Of all that it decides on, by name; tokens with the extra ones.
        batch_size: Images per forward.
        schedule: What finds the latency of an operator.
    """
    ones = np.ones(len(next(iter(shares.values()))))
    tokens, heads = shares.get(TOKENS, ones), shares.get(HEADS, ones)
    alike: dict[tuple[int, int], list[int]] = {}
    for case in range(len(ones)):
        kept = max(_whole(tokens[case], spec.tokens), spec.extra)
        alike.setdefault((kept, _whole(heads[case], spec.heads)), []).append(case)
    result = []
    for counts, where in alike.items():
        cases, parts = np.array(where), operators_of(spec, *counts, batch_size)
        runs = tuple(
            Run(tuple(schedule(operator) for operator in operators), share[cases])
            for operators, share in (
                (parts.always, ones),
                (parts.attention, shares.get(ATTENTION, ones)),
                (parts.mlp, shares.get(MLP, ones)),
            )
        )
        result.append(BlockRun(cases, runs, {}))
    return result


def _whole(share: float, count: int) -> int:
    """How many of ``count`` run; measured shares are exact to single precision."""
    return ceil(share * count - 1e-4)


def operators_of(spec: EncoderSpec, kept: int, heads: int, batch_size: int) -> Parts:
    """Operators with ``kept`` tokens of each image and ``heads`` heads."""
    first = [ops.over_rows('norm1', batch_size * spec.tokens, spec.inputs)]
    deciding, decided = _deciding(spec, kept, batch_size), TOKENS in spec.policies
    # The policy of tokens reads them after the norm, whether attention then runs or not.
    attention = _attention(spec, kept, heads, batch_size)
    mlp = _mlp(spec, kept, heads, batch_size)
    if decided:
        return Parts(first + deciding, attention, mlp)
    return Parts(deciding, first + attention, mlp)


def _deciding(spec: EncoderSpec, kept: int, batch_size: int) -> list[Operator]:
    """The policies: linear layers of a token; those of heads and blocks read the first one."""
    width, result = spec.inputs, []
    if TOKENS in spec.policies:
        if spec.token_patch > 1:
            result.append(ops.elementwise('token_pool', batch_size * prod(spec.grid), width))
        result.append(ops.linear('token_policy', width, 1, batch_size * spec.patches))
        result.append(ops.indexing(spec.grid, batch_size * kept, batch_size))
    if HEADS in spec.policies:
        result.append(ops.linear('head_policy', width, spec.heads, batch_size))
    if BLOCKS in spec.policies:
        result.append(ops.linear('block_policy', width, 2, batch_size))
    return result


def _attention(spec: EncoderSpec, kept: int, heads: int, batch_size: int) -> list[Operator]:
    rows, inner = batch_size * kept, spec.width // spec.heads
    values = spec.width if spec.head_mode == 'attention' else heads * inner
    result = _gathered('gather', spec, rows)
    result += _linear('qkv', spec.inputs, 2 * heads * inner + values, rows)
    if heads:
        matrices = batch_size * heads
        result += [
            ops.product('scores', matrices, kept, inner, kept),
            ops.over_rows('softmax', matrices * kept, kept),
            ops.product('context', matrices, kept, kept, inner),
        ]
    result += _linear('proj', values, spec.width, rows)
    return [*result, _added('add1', spec, rows)]


def _mlp(spec: EncoderSpec, kept: int, heads: int, batch_size: int) -> list[Operator]:
    width, hidden = spec.width, spec.hidden
    within = spec.tokens_with_mlp and TOKENS in spec.policies
    rows = batch_size * (kept if within else spec.tokens)
    read = width * heads // spec.heads if spec.head_mode == 'input' else width
    if spec.head_mode == 'hidden':
        hidden = hidden * heads // spec.heads
    result = _gathered('gather2', spec, rows) if within else []
    result.append(ops.over_rows('norm2', rows, width))
    result += _linear('fc1', read, hidden, rows)
    if hidden:
        result.append(ops.elementwise('gelu', rows, hidden))
    result += _linear('fc2', hidden, width, rows)
    return [*result, _added('add2', spec, rows)]


def _linear(name: str, inputs: int, outputs: int, rows: int) -> list[Operator]:
    """Nothing where no channels are left: a bias that the next kernel adds."""
    return [ops.linear(name, inputs, outputs, rows)] if inputs and outputs else []


def _gathered(name: str, spec: EncoderSpec, rows: int) -> list[Operator]:
    """Kept tokens, copied one behind the other."""
    return [ops.elementwise(name, rows, spec.inputs)] if TOKENS in spec.policies else []


def _added(name: str, spec: EncoderSpec, rows: int) -> Operator:
    """The residual addition of the rows that were computed, in place."""
    scattered = 'scatter_' if rows % spec.tokens or TOKENS in spec.policies else ''
    return ops.elementwise(f'{scattered}{name}', rows, spec.width, reads=2)
