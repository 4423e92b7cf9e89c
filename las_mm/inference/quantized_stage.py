"""A stage of a backbone whose blocks compute in 8 bits."""

from typing import cast

from torch import Tensor

from las_mm.executors.cpu.int8_chain import Int8Chain, why_not_int8
from las_mm.layers import DynamicBlock
from las_mm.ops.compiling import not_compiled
from las_mm.ops.plain import runs_as_shipped
from las_mm.ops.reasons import log_once

from .stage import InferenceStage, can_be_cast


class Int8Stage(InferenceStage):
    """A sequence of blocks between whose convolutions features are bytes.

    What cannot run so, as with a hook on a block or while gradients are wanted, runs in float32.
    """

    in_bytes = True

    def run(self, x: Tensor, private: bool = False) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W'), both in float32.

        Args:
            x: The input.
            private: Whether the stage may write over it.
        """
        chain = self._find_int8(x) if can_be_cast(self, x) else None
        return super().run(x, private) if chain is None else chain.run(x)

    @not_compiled  # looks into modules' dicts
    def _find_int8(self, x: Tensor) -> Int8Chain | None:
        chain, blocks = self.__dict__.get('_int8'), list(self.children())
        if chain is not None and chain.fits(x, cast(list[DynamicBlock], blocks)):
            return chain
        self.__dict__['_int8'] = None
        if not all(isinstance(b, DynamicBlock) and runs_as_shipped(b, 'forward') for b in blocks):
            reason: str | None = 'a block has a forward of its own'
        else:
            reason = why_not_int8(cast(list[DynamicBlock], blocks), x)
        if reason:
            log_once(f'precision: some stages compute in fp32: {reason}')
        else:
            self.__dict__['_int8'] = Int8Chain(cast(list[DynamicBlock], blocks), x)
        return self.__dict__['_int8']

    def __getstate__(self) -> dict:
        """Copies and pickles pack their own blocks."""
        return {key: value for key, value in super().__getstate__().items() if key != '_int8'}
