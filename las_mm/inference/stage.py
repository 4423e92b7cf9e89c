"""A stage of a backbone in inference: in one native call where that is possible."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from las_mm.executors.cpu.chain import Chain, why_not_chain
from las_mm.layers import DynamicBlock
from las_mm.layers.numbering import number_block
from las_mm.ops.compiling import not_compiled
from las_mm.ops.gradients import is_compiled, is_exported, is_recorded, wants_gradients
from las_mm.ops.plain import is_watched, runs_as_shipped
from las_mm.ops.reasons import log_once

from .precision import say_what_bf16_brings
from .recording import export_stage
from .stand_ins import StandIn, run_own


class InferenceStage(StandIn):
    """A sequence of blocks that may write over the outputs of the blocks before them.

    Within a stage nobody else holds these, unless a forward hook has seen them. The stage's input
    and output belong to others and are left alone.

    Where it has a precision, its blocks compute in that, but for those that cannot.

    Attributes:
        in_bytes: Whether that precision is int8.
    """

    in_bytes: ClassVar[bool] = False

    def forward(self, x: Tensor, private: bool = False) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W').

        Args:
            x: The input.
            private: Whether the stage may write over it.
        """
        if not all(isinstance(block, DynamicBlock) for block in self.children()):
            return run_own(self, x)
        if is_compiled() and can_be_recorded(self, x):
            return torch.ops.las_mm.optimized_stage(x, self.__dict__['_number'])
        return self.run(x, private)

    def run(self, x: Tensor, private: bool = False) -> Tensor:
        """What the forward is where no compiler reads it."""
        dtype, given = self.__dict__.get('_dtype'), x.dtype
        if is_exported() and (dtype is not None or self.in_bytes):
            log_once("export: stages are recorded in fp32, not in the model's precision")
        if dtype is not None and given != dtype and can_be_cast(self, x):
            x, private = x.to(dtype), True
        out = self._run_recorded(x) if is_exported() else self._run_chain(x, private)
        if out is None:
            out = self._run_blocks(x, private)
        if dtype is None or self.__dict__['_leads_on']:
            return out
        return out.float()

    def _run_recorded(self, x: Tensor) -> Tensor | None:
        blocks = cast(list[DynamicBlock], list(self.children()))
        watched = any(is_watched(part) for block in blocks for part in block.modules())
        if watched or not all(runs_as_shipped(block, 'forward') for block in blocks):
            return None
        return export_stage(blocks, x)

    def _run_chain(self, x: Tensor, private: bool) -> Tensor | None:
        if x.device.type != 'cpu' or torch.compiler.is_compiling():
            return None
        chain = self._find_chain(x)
        return None if chain is None else chain.run(x, private)

    @not_compiled  # looks into modules' dicts
    def _find_chain(self, x: Tensor) -> Chain | None:
        """The blocks in one piece, packed anew if need be; None if they must run one by one."""
        chain = self.__dict__.get('_chain')
        blocks = cast(list[DynamicBlock], list(self.children()))
        if chain is None or not chain.fits(x, blocks):
            plain = all(runs_as_shipped(block, 'forward') for block in blocks)
            chain = Chain(blocks, x) if plain and not why_not_chain(blocks, x) else None
            if chain is not None:
                say_what_bf16_brings(x.dtype)
            self.__dict__['_chain'] = chain
        return chain

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles pack their own blocks."""
        return {k: v for k, v in self.__dict__.items() if k not in ('_chain', '_number')}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Compiled graphs of a copy run the copy."""
        super().__setstate__(state)
        self.__dict__['_number'] = number_block(self)

    def _run_blocks(self, x: Tensor, private: bool) -> Tensor:
        """One block after another, each where its hooks can see it."""
        signed = False  # whether the block before leaves negative values
        for block in cast(list[DynamicBlock], list(self.children())):
            watched, linear = is_watched(block), block.branch.act_after is None
            x, private = self._cast_for(block, x, private)
            x = block(x, private=private and not watched and (linear or not signed))
            private, signed = not watched, linear
        return x

    def _cast_for(self, block: DynamicBlock, x: Tensor, private: bool) -> tuple[Tensor, bool]:
        """The input in the stage's precision if the block can run in it, else in float32."""
        dtype = self.__dict__.get('_dtype')
        if dtype is None:
            return x, private
        low, executor = x.to(dtype), block.executor and block.executor.on(x)
        if can_be_cast(self, x):
            reason = 'no executor runs them' if not executor else executor.why_not(block, low)
        else:
            reason = 'gradients are wanted, or the forward is recorded or trains'
        if reason:
            log_once(f'precision: some blocks compute in fp32: {reason}')
        wanted = x.float() if reason else low
        return wanted, private or wanted is not x


def can_be_recorded(stage: nn.Module, x: Tensor) -> bool:
    """Whether a compiled graph may run the stage as one operator: without gradients, on a CPU."""
    return x.device.type == 'cpu' and not stage.training and not wants_gradients(stage, x)


def can_be_cast(stage: nn.Module, x: Tensor) -> bool:
    """Whether blocks may compute in another precision: inference alone, on the CPU."""
    quiet = not (is_recorded() or wants_gradients(stage, x) or stage.training)
    return quiet and x.device.type == 'cpu' and not torch.compiler.is_compiling()
