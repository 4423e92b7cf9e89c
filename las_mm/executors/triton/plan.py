"""A plan: for each stage of a backbone, how its blocks decide what to compute."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from las_mm.layers import DynamicBlock

from .block import run_block
from .margins import Margins
from .options import DEFAULT, Options
from .packing import PackedBlock
from .sizes import zero_counts

Pack = Callable[[DynamicBlock, torch.dtype], PackedBlock]

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

    blocks: tuple[DynamicBlock, ...]
    mode: str = FUSED
    margins: Margins | None = None
    times: dict[str, float] = field(default_factory=dict)

    def start(self, pack: Pack, dtype: torch.dtype) -> None:
        """Begin a forward of blocks that ``pack`` lays out."""
        if self.mode != INCREMENTAL:
            self.margins = None
            return
        packed = [pack(block, dtype) for block in self.blocks[1:]]
        if self.margins is None or not self.margins.belong_to(packed):
            self.margins = Margins(packed)
        self.margins.start()


@dataclass
class Plan:
    """How the blocks of a backbone run one after the other.

    It belongs to the executor that runs them.

    Attributes:
        stages: The stages, in order.
        options: Switches.
    """

    stages: tuple[Stage, ...]
    options: Options = field(default=DEFAULT)

    def __post_init__(self) -> None:
        blocks = [(stage, block) for stage in self.stages for block in stage.blocks]
        self._places = {id(block): (i, stage) for i, (stage, block) in enumerate(blocks)}
        # Empty lists for the blocks that are still to run in this forward.
        self._counts: dict[int, Tensor] = {}

    def run(
        self,
        pack: Pack,
        block: DynamicBlock,
        x: Tensor,
        private: bool,
        decided: Tensor | None,
    ) -> tuple[Tensor, Tensor] | None:
        """Run a block of the backbone as planned; None if it is not one of the planned blocks.

        Args:
            pack: Lays out a block for the kernels, or remembers how it did.
            block: The block.
            x: (N, C, H, W).
            private: Whether the output may take the place of ``x``.
            decided: Mask to take instead of the own decision, or None.
        """
        if id(block) not in self._places:
            return None
        number, stage = self._places[id(block)]
        if number == 0:  # One clearing of all lists for the whole forward.
            self._counts = dict(enumerate(zero_counts(x.device, len(self._places))))
        if block is stage.blocks[0]:
            stage.start(pack, x.dtype)
        fused = None if stage.mode == INCREMENTAL else stage.mode == FUSED
        return run_block(
            pack(block, x.dtype),
            x,
            replace(self.options, masker_conv1=fused, incremental_masker=None),
            in_place=private,
            margins=stage.margins,
            counts=self._counts.pop(number, None),
            decided=decided,
        )
