"""A plan: for each block of a backbone, how it decides and whether it may work in place."""

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

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock

# How a block gets its mask and its first convolution.
FUSED, SEPARATE, INCREMENTAL = 'fused', 'separate', 'incremental'
MODES = (FUSED, SEPARATE, INCREMENTAL)


@dataclass
class Stage:
    """A stage's blocks and the mode that all of them run in.

    Attributes:
        blocks: Dynamic blocks of one stage, in order.
        mode: One of ``MODES``. The stage's first block always reads its input.
        margins: State of the incremental masker within a forward.
    """

    blocks: tuple['DynamicBlock', ...]
    mode: str = FUSED
    margins: Margins | None = None

    def start_margins(self, dtype: torch.dtype) -> None:
        """Begin a forward of the incremental masker."""
        packed = [remember(pack_block, block, dtype) for block in self.blocks[1:]]
        if self.margins is None or not self.margins.belong_to(packed):
            self.margins = Margins(packed)
        self.margins.start()

    @property
    def modes(self) -> tuple[str, ...]:
        """Those that the stage can run in."""
        return MODES if len(self.blocks) > 1 else MODES[:2]


@dataclass
class Plan:
    """How the blocks of a backbone run one after the other, on buffers that are theirs.

    Use it by :func:`use_plan` around the backbone's forward.

    Attributes:
        stages: The stages, in order.
        options: Switches.
    """

    stages: tuple[Stage, ...]
    options: Options = field(default_factory=current_options)

    def run(self, block: 'DynamicBlock', x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Run a block of the backbone as planned; None if it is not one of the planned blocks."""
        stage = next((s for s in self.stages if any(b is block for b in s.blocks)), None)
        if stage is None:
            return None
        first = block is stage.blocks[0]
        if stage.mode == INCREMENTAL and first:
            stage.start_margins(x.dtype)
        margins = stage.margins if stage.mode == INCREMENTAL else None
        options = replace(self.options, masker_conv1=stage.mode == FUSED)
        packed = remember(pack_block, block, x.dtype)
        return run_block(packed, x, options, in_place=not first, margins=margins)


_current: ContextVar[Plan | None] = ContextVar('las_mm_triton_plan', default=None)


def current_plan() -> Plan | None:
    """The plan in effect."""
    return _current.get()


@contextmanager
def use_plan(plan: Plan) -> Iterator[None]:
    """Run the backbone by ``plan`` in a ``with`` block: blocks overwrite their inputs."""
    token = _current.set(plan)
    try:
        yield
    finally:
        _current.reset(token)
