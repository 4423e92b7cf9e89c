"""Views: which masks, pictures and boxes belong to one forward of a test, and to each other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from las_mm.layers import BlockTrace
from las_mm.models import DynamicBackbone

# Steps of test pipelines by what they do to coordinates. A step of another name may do anything.
RESIZING = {'Resize', 'FixScaleResize', 'ResizeEdge', 'RandomResize', 'RandomChoiceResize'}
FLIPPING = {'RandomFlip', 'Flip'}
KEEPING = {
    *('LoadImageFromFile', 'LoadImageFromNDArray', 'LoadMultiChannelImageFromFiles'),
    *('Pad', 'Normalize', 'PhotoMetricDistortion', 'PackDetInputs', 'PackInputs', 'ToTensor'),
}
LOADING = {'LoadAnnotations', 'LoadPanopticAnnotations'}
ORIGINAL, INPUT = 'original', 'input'


@dataclass(frozen=True)
class View:
    """One image in one forward.

    Attributes:
        picture: (3, H, W) as it was loaded, padded nowhere; None if it did not pass through the
            model's data preprocessor.
        sample: Its data sample, ground truth and predictions among it.
        traces: What each block of the backbone did in that forward.
        index: The image's place in the batch of that forward.
        input_size: (H, W) of the backbone's input.
    """

    picture: Tensor | None
    sample: Any
    traces: list[BlockTrace]
    index: int
    input_size: tuple[int, int]


class ViewWatch:
    """Tells of every image of every forward that predicts, as long as it is attached.

    Args:
        model: A model, or a wrapper of one, such as that of test-time augmentation.
        backbone: Its dynamic backbone.
        tell: Called with the views of a forward in which the backbone ran exactly once.
    """

    def __init__(
        self, model: nn.Module, backbone: DynamicBackbone, tell: Callable[[list[View]], None]
    ) -> None:
        owner = owner_of(model, backbone)
        self._backbone, self._tell = backbone, tell
        self._runs = 0
        self._pictures: Any = None
        self._handles = [
            owner.data_preprocessor.register_forward_pre_hook(self._keep_pictures),
            owner.register_forward_pre_hook(self._start),
            backbone.register_forward_hook(self._count),
            owner.register_forward_hook(self._end, with_kwargs=True),
        ]

    def detach(self) -> None:
        """Stop telling."""
        for handle in self._handles:
            handle.remove()

    def _keep_pictures(self, module: nn.Module, args: tuple) -> None:
        data = args[0] if args else None
        self._pictures = data.get('inputs') if isinstance(data, dict) else None

    def _start(self, owner: nn.Module, args: tuple) -> None:
        self._runs = 0

    def _count(self, backbone: nn.Module, args: tuple, out: Any) -> None:
        self._runs += 1

    def _end(self, owner: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
        pictures, self._pictures = self._pictures, None
        mode = kwargs.get('mode', args[2] if len(args) > 2 else 'tensor')
        traces = self._backbone.traces
        known = mode == 'predict' and self._runs == 1 and isinstance(out, Sequence)
        if not known or len(out) != traces[0].images:
            return
        fits = pictures is not None and len(pictures) == len(out)
        size = self._backbone.input_size
        self._tell(
            [
                View(pictures[index] if fits else None, sample, traces, index, size)
                for index, sample in enumerate(out)
            ]
        )


def owner_of(model: nn.Module, backbone: nn.Module) -> BaseModel:
    """The innermost model that runs a backbone on a batch and its data samples.

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
    return owners[-1]


def steps_of(pipeline: Any) -> Iterator[list[str]]:
    """The names of a pipeline's steps, one list for each way through it."""
    names: list[str] = []
    for step in getattr(pipeline, 'transforms', ()):
        if hasattr(step, 'subroutines'):  # test-time augmentation
            for way in step.subroutines:
                for rest in steps_of(way):
                    yield [*names, *rest]
            return
        names.append(type(step).__name__)
    yield names


def frame_of_boxes(pipeline: Any) -> tuple[str | None, str]:
    """What coordinates a pipeline's ground-truth boxes are in.

    Args:
        pipeline: The composed steps of a data set.

    Returns:
        ``'original'`` for pixels of the image as stored, ``'input'`` for pixels of the network's
        input, None where it cannot be known; and the reason for that.
    """
    frames = set()
    for names in steps_of(pipeline):
        unknown = set(names) - RESIZING - FLIPPING - KEEPING - LOADING
        if unknown:
            return None, f'{min(unknown)} may move boxes'
        loading = [place for place, name in enumerate(names) if name in LOADING]
        moving = [place for place, name in enumerate(names) if name in RESIZING | FLIPPING]
        if not loading:
            return None, 'the pipeline loads no annotations'
        if not moving or loading[0] > moving[-1]:
            frames.add(ORIGINAL)
        elif loading[0] < moving[0]:
            frames.add(INPUT)
        else:
            return None, 'annotations are loaded between steps that move them'
    if len(frames) != 1:
        return None, 'it has several ways of which each moves boxes otherwise'
    return frames.pop(), ''


def boxes_in_input(sample: Any, frame: str) -> Tensor:
    """Ground-truth boxes (n, 4) of a data sample, in pixels of the network's input.

    Args:
        sample: The sample, with its image's ``scale_factor`` and flip.
        frame: What :func:`frame_of_boxes` says.
    """
    boxes = sample.gt_instances.bboxes
    boxes = boxes.tensor if hasattr(boxes, 'tensor') else boxes
    if frame == INPUT:
        return boxes
    boxes = boxes * boxes.new_tensor(sample.get('scale_factor', (1.0, 1.0))).repeat(2)
    direction = (sample.get('flip_direction') or '') if sample.get('flip') else ''
    height, width = sample.img_shape[:2]
    x1, y1, x2, y2 = boxes.unbind(1)
    if direction in ('horizontal', 'diagonal'):
        x1, x2 = width - x2, width - x1
    if direction in ('vertical', 'diagonal'):
        y1, y2 = height - y2, height - y1
    return torch.stack([x1, y1, x2, y2], 1)
