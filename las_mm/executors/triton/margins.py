"""The incremental masker: margins of a stage's blocks, kept up to date instead of recomputed.

Pooling and the masker's 1×1 convolution are linear, and a block leaves the features of skipped
patches as they are. So the margins of all following blocks change in active patches only, and the
last convolution's epilogue, which has the new features in registers, can renew them: no block
reads its input densely any more. Every sum is in double precision, as in the other executors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .deciding import run_masker
from .options import Options
from .packing import PackedBlock
from .sizes import Sizes


class Margins:
    """Margins of the blocks of one stage after its first one.

    Args:
        blocks: Those blocks, in order. They share granularity and size, and have no shortcut
            convolution.
    """

    def __init__(self, blocks: Sequence[PackedBlock]) -> None:
        self._blocks = blocks
        self._weights = torch.cat([block.masker_weight for block in blocks])
        self._biases = torch.cat([block.masker_bias for block in blocks])
        self._window = blocks[0].window
        self._margins: Tensor | None = None
        self._next = 0

    def start(self) -> None:
        """Forget the last forward: the next block is the stage's first."""
        self._margins, self._next = None, 0

    def belong_to(self, blocks: Sequence[PackedBlock]) -> bool:
        """Whether these are the blocks they were made for, parameters unchanged."""
        pairs = zip(self._blocks, blocks, strict=True)
        return all(mine is other for mine, other in pairs)

    def own(self) -> Tensor | None:
        """(patches,) margins of the block that runs now; None for the stage's first one."""
        return None if self._margins is None else self._margins[self._next - 1]

    def margins_and_biases(self) -> tuple[Tensor, Tensor] | None:
        """(blocks, patches) margins and (blocks,) biases of the blocks after this one."""
        margins = self._following()
        return None if margins is None else (margins, self._biases[self._next :])

    def weights_and_margins(self) -> tuple[Tensor, Tensor] | None:
        """(blocks, depth) weights and (blocks, patches) margins of the blocks after this one."""
        margins = self._following()
        return None if margins is None else (self._weights[self._next :], margins)

    def next_block(self, out: Tensor, sizes: Sizes, options: Options) -> None:
        """Go on to the next block; after the first one, compute all margins of its output rows."""
        if self._margins is None:
            after = Sizes(sizes.batch, sizes.output, sizes.output, sizes.output, sizes.grid)
            self._margins = run_masker(
                self._weights, self._biases, self._window, after, out, options
            )
        self._next += 1

    def _following(self) -> Tensor | None:
        if self._margins is None or self._next == len(self._biases):
            return None
        return self._margins[self._next :]
