"""A stage of a backbone in inference: in one native call where that is possible."""

from typing import Any, cast

from torch import Tensor

from las_mm.executors.cpu.chain import Chain, why_not_chain
from las_mm.layers import DynamicBlock
from las_mm.ops.compiling import not_compiled
from las_mm.ops.plain import is_watched, runs_as_shipped

from .stand_ins import StandIn, run_own


class InferenceStage(StandIn):
    """A sequence of blocks that may write over the outputs of the blocks before them.

    Within a stage nobody else holds these, unless a forward hook has seen them. The stage's input
    and output belong to others and are left alone.
    """

    def forward(self, x: Tensor, private: bool = False) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W').

        Args:
            x: The input.
            private: Whether the stage may write over it.
        """
        if not all(isinstance(block, DynamicBlock) for block in self.children()):
            return run_own(self, x)
        chain = self._find_chain(x) if x.device.type == 'cpu' else None
        return self._run_blocks(x, private) if chain is None else chain.run(x, private)

    @not_compiled  # looks into modules' dicts
    def _find_chain(self, x: Tensor) -> Chain | None:
        """The blocks in one piece, packed anew if need be; None if they must run one by one."""
        chain = self.__dict__.get('_chain')
        blocks = cast(list[DynamicBlock], list(self.children()))
        if chain is None or not chain.fits(x, blocks):
            plain = all(runs_as_shipped(block, 'forward') for block in blocks)
            chain = Chain(blocks, x) if plain and not why_not_chain(blocks, x) else None
            self.__dict__['_chain'] = chain
        return chain

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles pack their own blocks."""
        return {key: value for key, value in self.__dict__.items() if key != '_chain'}

    def _run_blocks(self, x: Tensor, private: bool) -> Tensor:
        """One block after another, each where its hooks can see it."""
        signed = False  # whether the block before leaves negative values
        for block in cast(list[DynamicBlock], list(self.children())):
            watched, linear = is_watched(block), block.branch.act_after is None
            x = block(x, private=private and not watched and (linear or not signed))
            private, signed = not watched, linear
        return x
