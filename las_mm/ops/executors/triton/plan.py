"""A plan: for each stage of a backbone, how its blocks decide what to compute."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from las_mm.ops.folding import remember

from .block import run_block
from .margins import Margins
from .options import Options, current_options
from .packing import pack_block
from .sizes import zero_counts

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock

# How a block gets its mask and its first convolution: in one kernel, the latter dense; masker, then
# the dilated set; or the dilated set of margins that the blocks before have kept up to date.
FUSED, SEPARATE, INCREMENTAL = 'fused', 'separate', 'incremental'


@dataclass
class Stage:
    """A stage's blocks and the mode that all of them run in.

    Attributes:
        blocks: Dynamic blocks of one stage, in order.
        mode: FUSED, SEPARATE or INCREMENTAL. A block that cannot be fused is run separately, and
            in an incremental stage so is the first block, if it cannot be fused.
        margins: State of the incremental masker within a forward.
        times: Milliseconds of the stage in each mode that was timed to choose one.
    """

    blocks: tuple['DynamicBlock', ...]
    mode: str = FUSED
    margins: Margins | None = None
    times: dict[str, float] = field(default_factory=dict)

    def start(self, dtype: torch.dtype) -> None:
        """Begin a forward."""
        if self.mode != INCREMENTAL:
            self.margins = None
            return
        packed = [remember(pack_block, block, dtype) for block in self.blocks[1:]]
        if self.margins is None or not self.margins.belong_to(packed):
            self.margins = Margins(packed)
        self.margins.start()


@dataclass
class Plan:
    """How the blocks of a backbone run one after the other.

    Use it by :func:`use_plan` around the backbone's forward.

    Attributes:
        stages: The stages, in order.
        options: Switches.
    """

    stages: tuple[Stage, ...]
    options: Options = field(default_factory=current_options)

    def __post_init__(self) -> None:
        blocks = [(stage, block) for stage in self.stages for block in stage.blocks]
        self._places = {id(block): (i, stage) for i, (stage, block) in enumerate(blocks)}
        # Empty lists for the blocks that are still to run in this forward.
        self._counts: dict[int, Tensor] = {}

    def run(
        self, block: 'DynamicBlock', x: Tensor, private: bool
    ) -> tuple[Tensor, Tensor] | None:
        """Run a block of the backbone as planned; None if it is not one of the planned blocks."""
        if id(block) not in self._places:
            return None
        number, stage = self._places[id(block)]
        if number == 0:  # One clearing of all lists for the whole forward.
            self._counts = dict(enumerate(zero_counts(x.device, len(self._places))))
        if block is stage.blocks[0]:
            stage.start(x.dtype)
        fused = None if stage.mode == INCREMENTAL else stage.mode == FUSED
        return run_block(
            remember(pack_block, block, x.dtype),
            x,
            replace(self.options, masker_conv1=fused, incremental_masker=None),
            in_place=private,
            margins=stage.margins,
            counts=self._counts.pop(number, None),
            decided=block.masker.decided,
        )


_current: ContextVar[Plan | None] = ContextVar('las_mm_triton_plan', default=None)


def current_plan() -> Plan | None:
    """The plan in effect."""
    return _current.get()


@contextmanager
def use_plan(plan: Plan) -> Iterator[None]:
    """Run a backbone's blocks by a plan in a ``with`` block."""
    token = _current.set(plan)
    try:
        yield
    finally:
        _current.reset(token)
