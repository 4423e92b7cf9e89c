"""Executor: a way to run dynamic blocks in inference, handed to them by their backbone."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor, nn

Block = TypeVar('Block', bound=nn.Module)
Masks = tuple[Tensor, ...]
Run = Callable[[Tensor, bool], tuple[Tensor, Masks]]


class Executor(ABC, Generic[Block]):
    """Runs blocks with the same outputs as their own dense forward, proven equal.

    It owns its options and what it made of the blocks' parameters. Copies of a block share their
    executor, which tells the copies apart; pickles take it along by its options alone.

    Attributes:
        name: What configs call it.
        fallback: Who runs the blocks that it cannot run; None for their own dense forward.
    """

    name: str
    fallback: 'Executor[Block] | None' = None

    def on(self, x: Tensor) -> 'Executor[Block] | None':
        """The executor for inputs such as ``x``, where that depends on their device."""
        return self

    @abstractmethod
    def prepare(self, block: Block, x: Tensor) -> Run | str:
        """What runs the block in inference on x, or the reason why it cannot be run exactly.

        Args:
            block: The block.
            x: (N, C, H, W).

        Returns:
            The reason; or a function of ``x`` and of whether it is private, that is another block's
            output which nobody else will read, so that the output may take its place. It returns
            the output (N, C', H', W') and the coarse masks of the block's maskers.
        """

    def why_not(self, block: Block, x: Tensor) -> str | None:
        """The reason why it cannot run the block on x, None if it can."""
        run = self.prepare(block, x)
        return run if isinstance(run, str) else None

    def __deepcopy__(self, memo: dict) -> 'Executor[Block]':
        """Copies of a block go on with the same executor."""
        return self
