"""The whole dynamic backbone as one CUDA graph, masks and all."""

import torch
from torch import Tensor

from las_mm.executors.triton import Options, TritonExecutor
from las_mm.executors.triton.options import DEFAULT
from las_mm.executors.triton.plan import Plan
from las_mm.layers import BlockTrace, Masks
from las_mm.models import DynamicBackbone
from las_mm.ops.cuda_graphs import capture

from .folding import FoldingConv
from .optimizing import optimize_for_inference
from .planning import plan_backbone


class GraphedBackbone:
    """A dynamic backbone in inference, planned, in place and as fast as it can be.

    What is active differs from image to image, but never comes back to the host, so that one
    captured graph serves them all. The backbone is optimized in place, see
    :func:`las_mm.inference.optimize_for_inference`, and its traces are those of the last call. The
    graph holds the parameters of the time of construction: make a new one after changing them. On
    a CPU with Triton's interpreter there is no graph, and everything else is the same.

    Example:
        >>> run = GraphedBackbone(backbone.cuda(), images)
        >>> stages = run(images)

    Args:
        backbone: A dynamic backbone.
        example: (N, 3, H, W) images of the size and type to come, and if possible of their content:
            the plan and the tiles are chosen on it.
        options: Switches.
        r_th: See :func:`~las_mm.inference.planning.plan_backbone`.
        plan: A ready plan, instead of ``options`` and ``r_th``.

    Raises:
        ValueError: If r_th is not in [0, 1].
    """

    def __init__(
        self,
        backbone: DynamicBackbone,
        example: Tensor,
        options: Options = DEFAULT,
        r_th: float | None = None,
        plan: Plan | None = None,
    ) -> None:
        executor = TritonExecutor(options if plan is None else plan.options)
        self._backbone = optimize_for_inference(backbone, executor)
        with torch.inference_mode(False):  # or only calls in inference mode could write to it
            self._input = example.detach().clone(memory_format=torch.channels_last)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._masks: list[tuple[Masks, tuple[int, int], int] | None] = []
        self.plan = plan or plan_backbone(backbone, self._input, executor, r_th)
        executor.plan = self.plan
        self._executor = executor
        if example.is_cuda:
            self._capture()

    @property
    def traces(self) -> list[BlockTrace]:
        """What each block did in the last call."""
        return self._backbone.traces

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """The backbone's outputs; on a GPU they are overwritten by the next call.

        Args:
            images: As the example.

        Raises:
            ValueError: If shape, type or device differ from those of the example.
        """
        self._check(images)
        if self._graph is None:
            return self._backbone(images)
        self._input.copy_(images)
        self._graph.replay()
        for block, last in zip(self._backbone.blocks, self._masks, strict=True):
            if last is not None:
                block.remember(*last)
        return self._outputs

    @torch.no_grad()
    def _capture(self) -> None:
        with torch.cuda.device(self._input.device):
            graph, self._outputs = capture(lambda: self._backbone(self._input))
        self._graph, self._masks = graph, [block.last for block in self._backbone.blocks]
        # The graph reads weights, folded, packed or as they are, by their addresses, also after a
        # parameter was changed and others have taken their place.
        packed = [self._executor.memory.made_of(block) for block in self._backbone.blocks]
        convs = [part for part in self._backbone.modules() if isinstance(part, FoldingConv)]
        margins = [stage.margins for stage in self.plan.stages]
        own = [parameter.detach() for parameter in self._backbone.parameters()]
        self._read_by_graph = packed, [conv.fold.made() for conv in convs], margins, own

    def _check(self, images: Tensor) -> None:
        expected, got = self._input, images
        for what in ('shape', 'dtype', 'device'):
            if getattr(got, what) != getattr(expected, what):
                raise ValueError(
                    f'images: {what} is {getattr(got, what)}, but this was made for '
                    f'{getattr(expected, what)}; make another GraphedBackbone for it'
                )
