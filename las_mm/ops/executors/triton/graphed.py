"""The whole dynamic backbone as one CUDA graph, masks and all."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .options import Options
from .plan import Plan, use_plan
from .planning import plan_backbone

if TYPE_CHECKING:
    from las_mm.models.backbone import DynamicBackbone

WARM_UPS = 3


class GraphedBackbone:
    """A dynamic backbone in inference, planned, in place and as fast as it can be.

    What is active differs from image to image, but never comes back to the host, so that one
    captured graph serves them all. The backbone's traces are those of the last call. Parameters are
    those of the time of construction; make a new one after changing them. On a CPU with Triton's
    interpreter there is no graph, and everything else is the same.

    Example:
        >>> run = GraphedBackbone(backbone.eval().cuda(), images)
        >>> stages = run(images)

    Args:
        backbone: A dynamic backbone in eval mode.
        example: (N, 3, H, W) images of the size and type to come, and if possible of their content:
            the plan and the tiles are chosen on it.
        options: Switches; those in effect by default.
        r_th: See :func:`plan_backbone`.
        plan: A ready plan, instead of ``options`` and ``r_th``.

    Raises:
        ValueError: If the backbone is in training mode, or an argument is not as it should be.
    """

    def __init__(
        self,
        backbone: 'DynamicBackbone',
        example: Tensor,
        options: Options | None = None,
        r_th: float | None = None,
        plan: Plan | None = None,
    ) -> None:
        if backbone.training:
            raise ValueError('backbone: it is in training mode; call backbone.eval() first')
        self._backbone = backbone
        self._fast = _fold_stem(backbone)
        self._input = example.detach().clone(memory_format=torch.channels_last)
        self._graph: torch.cuda.CUDAGraph | None = None
        with _triton(backbone), torch.no_grad():
            self.plan = plan or plan_backbone(self._fast, self._input, options, r_th)
            if example.is_cuda:
                self._capture()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """The backbone's outputs; on a GPU they are overwritten by the next call.

        Args:
            images: As the example.

        Raises:
            ValueError: If shape, type or device differ from those of the example.
        """
        self._check(images)
        self._backbone.input_size = tuple(images.shape[-2:])
        if self._graph is None:
            with _triton(self._backbone):
                return self._forward(images)
        self._input.copy_(images)
        self._graph.replay()
        for block in self._backbone.blocks:
            block.trace = replace(block.trace)  # whose rates are computed from the new mask
        return self._outputs

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):  # compiles, chooses tiles, lets cuDNN choose algorithms
                self._forward(self._input)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self._forward(self._input)

    def _forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with use_plan(self.plan):
            return self._fast(images)

    def _check(self, images: Tensor) -> None:
        expected, got = self._input, images
        for what in ('shape', 'dtype', 'device'):
            if getattr(got, what) != getattr(expected, what):
                raise ValueError(
                    f'images: {what} is {getattr(got, what)}, but this was made for '
                    f'{getattr(expected, what)}; make another GraphedBackbone for it'
                )


@contextmanager
def _triton(backbone: 'DynamicBackbone') -> Iterator[None]:
    before = backbone.executor
    backbone.executor = 'triton'
    try:
        yield
    finally:
        backbone.executor = before


def _fold_stem(backbone: 'DynamicBackbone') -> 'DynamicBackbone':
    """A copy of the backbone that shares its blocks and has no batch norms before them."""
    fast = copy.copy(backbone)
    fast._modules = dict(backbone._modules)
    if getattr(backbone, 'deep_stem', False):
        fast.stem = _fold_sequence(backbone.stem)
        return fast
    norm = getattr(backbone, 'norm1_name', 'bn1')
    folded = _fold_sequence(nn.Sequential(backbone.conv1, getattr(backbone, norm)))
    fast.conv1 = folded[0]
    fast._modules[norm] = folded[1]
    return fast


def _fold_sequence(layers: nn.Sequential) -> nn.Sequential:
    folded = list(layers)
    for index, (conv, norm) in enumerate(zip(folded[:-1], folded[1:], strict=True)):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            fused = fuse_conv_bn_eval(conv, norm).to(memory_format=torch.channels_last)
            folded[index : index + 2] = fused, nn.Identity()
    return nn.Sequential(*folded)
