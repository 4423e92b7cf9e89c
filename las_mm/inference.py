"""Prepare whole detectors and classifiers for fast inference, and undo it (Sec. 3.4)."""

import copy
from statistics import median
from time import perf_counter
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from las_mm.folded_layers import Folded, fold_norms, fold_stem
from las_mm.layers import DynamicBlock
from las_mm.models.backbone import DynamicBackbone
from las_mm.ops.executors import check_executor
from las_mm.ops.executors.cpu.chain import Chain, why_not_chain

Model = TypeVar('Model', bound=nn.Module)


def optimize_for_inference(model: Model, executor: str = 'auto') -> Model:
    """Make a model's inference fast; outputs stay the same up to rounding.

    Dynamic backbones run their blocks by ``executor``, each block writing over the output of the
    block before where nobody else can see it, and what comes before the first block in one piece.
    Batch norms everywhere else are folded into the convolutions before them, which then compute in
    channels-last memory; that is all that happens to a static network. Parameters stay where they
    are: state dicts keep their names and values, later changes are noticed, and the model can be
    pickled, copied, and even trained on.

    Args:
        model: Any module, changed in place and put in eval mode.
        executor: How dynamic blocks run, see :mod:`las_mm.ops.executors`.

    Returns:
        The model itself.

    Raises:
        ValueError: If there is no such executor.
    """
    check_executor(executor)
    restore_after_inference(model).eval()
    for backbone in [part for part in model.modules() if isinstance(part, DynamicBackbone)]:
        for name, stage in backbone.dynamic_stages.items():
            if isinstance(stage, nn.Sequential):  # a dense block reads every earlier output
                setattr(backbone, name, InferenceStage(stage, backbone.executor))
        backbone.executor = executor
        if executor in ('auto', 'cpu'):
            fold_stem(backbone)
    blocks = [part for part in model.modules() if isinstance(part, DynamicBlock)]
    inside_blocks = {part for block in blocks for part in block.modules()}
    for parent in set(model.modules()) - inside_blocks:
        fold_norms(parent)
    return model


def restore_after_inference(model: Model) -> Model:
    """Undo :func:`optimize_for_inference`, in place; does nothing to any other model.

    Returns:
        The model itself, in the mode it was in.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, InferenceStage) and isinstance(parent, DynamicBackbone):
                parent.executor = child.executor_before
            if isinstance(child, (InferenceStage, Folded)):
                setattr(parent, name, child.original)
    return model


class InferenceStage(nn.Sequential):
    """A stage whose blocks may write over the outputs of the blocks before them.

    Within a stage nobody else holds these, unless a forward hook has seen them. The stage's input
    and output belong to others and are left alone.

    Args:
        stage: The stage, whose blocks this one shares.
        executor_before: The executor to go back to.
    """

    def __init__(self, stage: nn.Sequential, executor_before: str) -> None:
        super().__init__(*stage)
        self.executor_before = executor_before
        self._hidden = (stage,)  # in a tuple: not a submodule, not in the state dict

    @property
    def original(self) -> nn.Sequential:
        """The stage that this one stands in for."""
        return self._hidden[0]

    def forward(self, x: Tensor, private: bool = False) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W'), in one native call where that is possible.

        Args:
            x: The input.
            private: Whether the stage may write over it.
        """
        chain = self._find_chain(x) if x.device.type == 'cpu' else None
        return self._run_blocks(x, private) if chain is None else chain.run(x, private)

    @torch.compiler.disable  # looks into modules' dicts
    def _find_chain(self, x: Tensor) -> Chain | None:
        """The blocks in one piece, packed anew if need be; None if they must run one by one."""
        chain = self.__dict__.get('_chain')
        if chain is None or not chain.fits(x):
            blocks = cast(list[DynamicBlock], list(self))
            plain = all(type(block).forward is DynamicBlock.forward for block in blocks)
            chain = Chain(blocks, x) if plain and not why_not_chain(blocks, x) else None
            self.__dict__['_chain'] = chain
        return chain

    def __getstate__(self) -> dict:
        """Copies and pickles pack their own blocks."""
        return {key: value for key, value in self.__dict__.items() if key != '_chain'}

    def _run_blocks(self, x: Tensor, private: bool) -> Tensor:
        """One block after another, each where its hooks can see it."""
        for block in self:
            watched = _is_watched(block)
            x = block(x, private=private and not watched)
            private = not watched
        return x


def _is_watched(block: nn.Module) -> bool:
    """Whether a hook sees the block's input or output and might keep it."""
    return bool(block._forward_hooks or block._forward_pre_hooks) or _has_any_global_hook()


def make_static(backbone: DynamicBackbone) -> DynamicBackbone:
    """A copy of the backbone without maskers: the static network of the same weights."""
    static = restore_after_inference(copy.deepcopy(backbone))
    for block in static.blocks:
        del block.masker
    return static


@torch.inference_mode()
def measure_backbone(
    backbone: DynamicBackbone, x: Tensor, rounds: int = 7, executor: str = 'auto'
) -> tuple[float, float]:
    """Measured latency of the backbone and of its static network, both optimized.

    Args:
        backbone: The backbone; left as it is.
        x: (N, 3, H, W) images, on the backbone's device.
        rounds: Interleaved measurements, of which the median counts.
        executor: How dynamic blocks run.

    Returns:
        (static, dynamic) latency of one batch in milliseconds.

    Raises:
        ValueError: If ``rounds`` is not positive.
    """
    if rounds < 1:
        raise ValueError(f'rounds: got {rounds}; give at least 1')
    dynamic = restore_after_inference(copy.deepcopy(backbone))
    networks = [optimize_for_inference(net, executor) for net in (make_static(backbone), dynamic)]
    times: tuple[list[float], list[float]] = [], []
    for index in range(rounds + 2):
        for network, record in zip(networks, times, strict=True):
            milliseconds = _time_once(network, x)
            if index >= 2:  # the first ones pack weights and choose algorithms
                record.append(milliseconds)
    return median(times[0]), median(times[1])


def _time_once(network: nn.Module, x: Tensor) -> float:
    synchronize = torch.cuda.synchronize if x.is_cuda else lambda: None
    synchronize()
    start = perf_counter()
    network(x)
    synchronize()
    return 1000 * (perf_counter() - start)
