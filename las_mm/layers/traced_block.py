"""A block that remembers what it did in its last forward."""

from typing import Any

from torch import nn

from las_mm.ops import conv_size

from .branch import Branch
from .executor import Masks
from .maskers import Masker
from .numbering import number_block
from .trace import BlockTrace

# What is of a forward and not of the block.
LEFT_BEHIND = ('_last', '_trace')
Last = tuple[Masks, tuple[int, int], int]  # masks, (H, W), N


class TracedBlock(nn.Module):
    """Keeps the masks of the last forward, and makes a trace of them when first asked for.

    Attributes:
        name: The block's name in its backbone, such as ``layer1.0``.
        stage: Its stage in the backbone, from 0.
    """

    name: str = ''
    stage: int = 0
    _last: Last | None = None
    _trace: BlockTrace | None = None

    @property
    def maskers(self) -> list[Masker]:
        """What decides for the block, in the order of their masks."""
        raise NotImplementedError

    @property
    def branch(self) -> Branch:
        """What the block computes."""
        raise NotImplementedError

    def remember(self, masks: Masks, input_size: tuple[int, int], images: int) -> None:
        """Keep what the maskers decided for ``trace``.

        Args:
            masks: The coarse masks of :attr:`maskers`.
            input_size: (H, W) of the block's input.
            images: N.
        """
        # Not by attribute: modules look through all their parameters for each, in every forward.
        self.__dict__['_last'], self.__dict__['_trace'] = (masks, input_size, images), None

    @property
    def last(self) -> Last | None:
        """What :meth:`remember` was told last; None before the first forward."""
        return self._last

    @property
    def trace(self) -> BlockTrace | None:
        """What the block did in its last forward; None before the first one."""
        if self._trace is None and self._last is not None:
            # Made when first asked for: inference may never ask.
            self._trace = self._trace_of(*self._last)
        return self._trace

    def _trace_of(self, masks: Masks, input_size: tuple[int, int], images: int) -> BlockTrace:
        branch, maskers = self.branch, self.maskers
        size = conv_size(input_size, branch.stride)
        decisions = tuple(m.decision(mask, size) for m, mask in zip(maskers, masks, strict=True))
        return BlockTrace(self.name, self.stage, decisions, branch, input_size, images)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles leave the trace behind: it is of a forward, not of the block."""
        return {key: value for key, value in self.__dict__.items() if key not in LEFT_BEHIND}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies are blocks of their own."""
        super().__setstate__(state)
        if 'number' in state:
            self.number = number_block(self)
