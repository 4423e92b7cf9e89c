"""One block at many shares: schedules of its operators, and what they add up to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .block import (
    always_running,
    can_fuse_masker,
    dynamic_first_convolution,
    dynamic_rest,
    shortcut_operators,
    whole_operators,
)
from .deciding import deciding_operators, narrowed
from .fusion import Fusion
from .operators.operator import Operator
from .results import OperatorLatency
from .schedule import Schedule
from .spec import BRANCH, CHANNELS, DILATED, SITES, BlockSpec

Scheduler = Callable[[Operator], Schedule]


@dataclass(frozen=True)
class Run:
    """Operators that run one after the other, at (R,) cases.

    Attributes:
        schedules: Of each operator.
        share: (R,) probability that they run at all.
        total: (R,) expected seconds.
    """

    schedules: tuple[Schedule, ...]
    share: np.ndarray
    total: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        total = sum((s.total for s in self.schedules), np.zeros(len(self.share)))
        object.__setattr__(self, 'total', total * self.share)

    def operators(self, index: int) -> tuple[OperatorLatency, ...]:
        """The breakdown of one case."""
        share = float(self.share[index])
        return tuple(operator_latency(found, index, share) for found in self.schedules)


@dataclass(frozen=True)
class BlockRun:
    """A dynamic block at (R,) cases.

    Attributes:
        cases: (R,) places among all cases that were asked for.
        runs: What runs in any case.
        first: The masker's and the dilated layer's operators, by whether they are fused.
    """

    cases: np.ndarray
    runs: tuple[Run, ...]
    first: dict[bool, Run]

    @property
    def fused(self) -> np.ndarray:
        """(R,) whether fusing is predicted not to be slower, i.e. r > r_th (Section 3.4)."""
        if len(self.first) < 2:
            return np.full(len(self.cases), True in self.first)
        return self.first[True].total <= self.first[False].total

    @property
    def total(self) -> np.ndarray:
        """(R,) seconds."""
        options = [run.total for run in self.first.values()]
        rest = np.sum([run.total for run in self.runs], axis=0)
        return np.minimum.reduce(options) + rest if options else rest

    def operators(self, index: int) -> tuple[OperatorLatency, ...]:
        """The breakdown of one case, in order of execution as far as it is one."""
        runs = self.runs
        if self.first:
            runs = (self.first[bool(self.fused[index])], *runs)
        return tuple(operator for run in runs for operator in run.operators(index))


def dynamic_runs(
    block: BlockSpec,
    shares: dict[str, np.ndarray],
    fusion: Fusion,
    batch_size: int,
    schedule: Scheduler,
) -> list[BlockRun]:
    """The block at (R,) shares of each name; one entry for each width that it narrows to.

    Args:
        block: A dynamic block.
        shares: Of all that it decides on, by name; ``'dilated'`` may be missing.
        fusion: Which operators share a kernel.
        batch_size: Images per forward.
        schedule: What finds the latency of an operator.
    """
    length = len(next(iter(shares.values())))
    widths: dict[BlockSpec, list[int]] = {}
    if CHANNELS in block.decided:
        for index, share in enumerate(shares[CHANNELS]):
            widths.setdefault(narrowed(block, float(share)), []).append(index)
    else:
        widths[block] = list(range(length))

    def run(operators: Sequence[Operator], share: np.ndarray) -> Run:
        return Run(tuple(schedule(operator) for operator in operators), share)

    result = []
    for narrow, where in widths.items():
        cases, always = np.array(where), np.ones(len(where))
        deciding = run(deciding_operators(block, batch_size), always)
        at = {name: share[cases] for name, share in shares.items()}
        if SITES in block.decided:
            given = at[SITES], at.get(DILATED)
            rest = dynamic_rest(narrow, given[0], fusion, batch_size, given[1])
            options = {
                fused: run(
                    dynamic_first_convolution(narrow, *given, fused, fusion, batch_size), always
                )
                for fused in _allowed(narrow, fusion)
            }
            result.append(BlockRun(cases, (run(rest, always), deciding), options))
            continue
        fixed = always_running(narrow, batch_size)
        rest = [o for o in whole_operators(narrow, batch_size, fusion.conv3_add) if o not in fixed]
        fixed += shortcut_operators(narrow, batch_size)
        runs = deciding, run(rest, at.get(BRANCH, always)), run(fixed, always)
        result.append(BlockRun(cases, runs, {}))
    return result


def _allowed(block: BlockSpec, fusion: Fusion) -> tuple[bool, ...]:
    """Whether masker and first convolution may be fused, may be apart, or both."""
    if not can_fuse_masker(block):
        return (False,)
    return (True, False) if fusion.masker_conv1 is None else (fusion.masker_conv1,)


def operator_latency(found: Schedule, index: int = 0, share: float = 1.0) -> OperatorLatency:
    """Case ``index`` of a schedule (its only one where it does not depend on r) in microseconds.

    Args:
        found: The schedule.
        index: The case.
        share: Probability that the operator runs; the latency is the expected one.
    """
    row = index if found.total.ndim else ()
    scale = 1e6 * share
    return OperatorLatency(
        found.name,
        float(found.total[row]) * scale,
        float(found.data[row]) * scale,
        float(found.computation[row]) * scale,
        found.launch * scale,
        tuple(int(edge) for edge in found.tile[row]),
    )
