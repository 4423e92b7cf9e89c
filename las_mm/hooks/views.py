"""Views: which masks, pictures and data samples belong to one forward of a test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from las_mm.layers import BlockTrace
from las_mm.models import DynamicBackbone

# Preprocessors that add to an image on the right and below, and leave its pixels where they are.
PADDING_ONLY = {
    *('ImgDataPreprocessor', 'DetDataPreprocessor', 'BoxInstDataPreprocessor'),
    *('ClsDataPreprocessor', 'MultiBranchDataPreprocessor'),
}
OWNERS = {'mmengine', 'mmdet', 'mmpretrain'}


@dataclass(frozen=True)
class View:
    """One image in one forward.

    Attributes:
        picture: (C, H, W), the upper left part of the backbone's input: as it was loaded, padded
            nowhere, or, if there is a doubt, as the backbone saw it.
        sample: Its data sample, ground truth and predictions among it; None if it is not known.
        traces: What each block of the backbone did in that forward.
        index: The image's place in the batch of that forward.
        input_size: (H, W) of the backbone's input.
        doubt: Why what the sample says of pixels may not be so of the picture; None if it is.
    """

    picture: Tensor
    sample: Any
    traces: list[BlockTrace]
    index: int
    input_size: tuple[int, int]
    doubt: str | None


class ViewWatch:
    """Tells of every image of every forward that predicts, as long as it is attached.

    Args:
        model: A model, or a wrapper of one, such as that of test-time augmentation.
        backbone: Its dynamic backbone.
        tell: Called with the views of a forward; where the backbone ran several times in it, those
            of the last time, with a doubt.
    """

    def __init__(
        self,
        model: nn.Module,
        backbone: DynamicBackbone,
        tell: Callable[[list[View]], None],
    ) -> None:
        owners = owners_of(model, backbone)
        self._backbone, self._tell = backbone, tell
        self._preprocessors: list[nn.Module] = []
        self._pictures: Any = None
        self._runs: list[Tensor] = []
        hook = self._keep_pictures
        processors = {id(owner.data_preprocessor): owner.data_preprocessor for owner in owners}
        self._handles = [
            *(p.register_forward_pre_hook(hook, with_kwargs=True) for p in processors.values()),
            owners[-1].register_forward_pre_hook(self._start, with_kwargs=True),
            backbone.register_forward_hook(self._count, with_kwargs=True),
            owners[-1].register_forward_hook(self._end, with_kwargs=True),
        ]

    def remove(self) -> None:
        """Stop telling."""
        for handle in self._handles:
            handle.remove()

    @torch.compiler.disable
    def _keep_pictures(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        data = args[0] if args else kwargs.get('data')
        self._pictures = data.get('inputs') if isinstance(data, dict) else None
        self._preprocessors.append(module)

    @torch.compiler.disable
    def _start(self, owner: nn.Module, args: tuple, kwargs: dict) -> None:
        self._runs = []

    @torch.compiler.disable
    def _count(self, backbone: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
        self._runs.append(args[0] if args else next(iter(kwargs.values())))

    @torch.compiler.disable
    def _end(self, owner: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
        pictures, preprocessors = self._pictures, self._preprocessors
        self._pictures, self._preprocessors = None, []
        mode = kwargs.get('mode', args[2] if len(args) > 2 else 'tensor')
        if mode != 'predict' or not self._runs:
            return
        inputs = args[0] if args else kwargs.get('inputs')
        doubt = self._doubt(pictures, preprocessors, inputs, out)
        traces, size = self._backbone.traces, self._backbone.input_size
        images = traces[0].images
        pictures = self._runs[-1] if doubt else pictures
        samples = out if isinstance(out, Sequence) and len(out) == images else [None] * images
        both = zip(pictures, samples, strict=True)
        self._tell([View(p, s, traces, i, size, doubt) for i, (p, s) in enumerate(both)])

    def _doubt(self, pictures: Any, processors: list, inputs: Any, out: Any) -> str | None:
        """Why masks, pictures and samples of a forward may not belong together, None if they do."""
        if len(self._runs) != 1:
            return f'the backbone ran {len(self._runs)} times for one prediction'
        moving = [type(p).__name__ for p in processors if not only_pads(p)]
        if moving:
            return f'{moving[0]} may move pixels'
        if not is_same(self._runs[0], inputs):
            return 'the backbone sees other images than the model is given'
        if pictures is None or len(pictures) != len(inputs):
            return "the images did not pass through the model's data preprocessor"
        if not isinstance(out, Sequence) or len(out) != len(inputs):
            return 'the model predicts for other images than it is given'
        return None


def only_pads(preprocessor: nn.Module) -> bool:
    """Whether a data preprocessor is known to leave pixels where they are, and to pad behind them.

    What augments batches does so in training only.
    """
    kind, inner = type(preprocessor), getattr(preprocessor, 'data_preprocessor', None)
    known = kind.__name__ in PADDING_ONLY and kind.__module__.partition('.')[0] in OWNERS
    return known and (inner is None or only_pads(inner))


def is_same(seen: Tensor, given: Any) -> bool:
    """Whether a backbone's input is what its model was given, in whichever precision."""
    known = isinstance(given, Tensor) and seen.shape == given.shape
    return seen is given or (known and torch.equal(seen, given.to(seen)))


def owners_of(model: nn.Module, backbone: nn.Module) -> list[BaseModel]:
    """The models that hold a backbone, from the outermost; the last one runs it on a batch.

    Raises:
        ValueError: If there is none.
    """
    owners = [
        part
        for part in model.modules()
        if isinstance(part, BaseModel) and any(inner is backbone for inner in part.modules())
    ]
    if not owners:
        raise ValueError(f'model: {type(model).__name__} holds no mmengine BaseModel')
    return owners
