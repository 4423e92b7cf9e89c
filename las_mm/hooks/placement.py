"""Where the objects of an image lie in a network's input, given the pipeline that it went through.

What a pipeline does is known for the steps named here, of OpenMMLab's own classes; and of what
they chose at random only the last choice is recorded in a data sample. Where that is not enough, a
reason is given in the place of boxes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import torch
from torch import Tensor

ORIGINAL, INPUT = 'original', 'input'
RESIZING = {'Resize', 'FixScaleResize'}
RESIZING_BY = {'RandomResize', 'RandomChoiceResize', 'ResizeShortestEdge'}  # one of those inside
FLIPPING = {'RandomFlip'}
PADDING = {'Pad'}
CROPPING = {'RandomCrop'}
KEEPING = {
    *('LoadImageFromFile', 'LoadImageFromNDArray', 'LoadMultiChannelImageFromFiles'),
    *('LoadProposals', 'Normalize', 'PhotoMetricDistortion', 'Corrupt', 'YOLOXHSVRandomAug'),
    *('ColorTransform', 'Color', 'Brightness', 'Contrast', 'Sharpness', 'Solarize', 'SolarizeAdd'),
    *('Posterize', 'Equalize', 'AutoContrast', 'Invert'),
    *('PackDetInputs', 'PackInputs', 'ToTensor', 'ImageToTensor'),
}
LOADING = {'LoadAnnotations', 'LoadPanopticAnnotations'}
AUGMENTING = {'TestTimeAug', 'MultiScaleFlipAug'}
KINDS = {'resize': RESIZING, 'flip': FLIPPING, 'pad': PADDING, 'crop': CROPPING, 'keep': KEEPING}
OWNERS = {'mmcv', 'mmdet', 'mmpretrain', 'mmengine'}


@dataclass(frozen=True)
class Placed:
    """The objects of one image, in pixels of the network's input.

    Attributes:
        boxes: (n, 4) ground-truth boxes as x1, y1, x2, y2.
        ignored: (m, 4) boxes that are marked to be ignored, such as those of crowds.
        picture: x1, y1, x2, y2 of the picture itself, without any padding.
    """

    boxes: Tensor
    ignored: Tensor
    picture: tuple[int, int, int, int]

    def in_picture(self) -> 'Placed':
        """The same in pixels of the picture."""
        x, y = self.picture[:2]
        shift = self.boxes.new_tensor([x, y, x, y])
        return replace(self, boxes=self.boxes - shift, ignored=self.ignored - shift)


class Unknown(ValueError):
    """It cannot be known where objects lie; the message says why."""


@dataclass(frozen=True)
class Placement:
    """How the pipeline of a data set moves its images and their boxes.

    Attributes:
        frame: What coordinates ground-truth boxes come in: ``'original'`` for pixels of the image
            as stored, ``'input'`` for pixels of the network's input.
        moves: The steps that move pixels, in order.
    """

    frame: str
    moves: tuple[Any, ...]

    def place(self, sample: Any) -> Placed:
        """Place the objects of a data sample.

        Raises:
            Unknown: If its meta data do not say enough, or its boxes are not upright.
        """
        shape = required(sample, 'img_shape')[:2]
        boxes = boxes_of(sample)
        ignored = sample.get('ignored_instances')
        rest = upright_boxes(ignored) if ignored is not None and len(ignored) else boxes[:0]
        padded = any(type(step).__name__ in PADDING for step in self.moves)
        if self.frame == INPUT and not padded:
            return Placed(boxes, rest, (0, 0, shape[1], shape[0]))
        scale, offset = self._follow(sample, (shape[1], shape[0]))
        height, width = sample.ori_shape[:2]
        whole = moved(boxes.new_tensor([[0, 0, width, height]], dtype=torch.double), scale, offset)
        x1, y1, x2, y2 = (round(edge) for edge in whole[0].tolist())
        if self.frame == ORIGINAL:
            boxes, rest = moved(boxes, scale, offset), moved(rest, scale, offset)
        return Placed(boxes, rest, (x1, y1, x2, y2))

    def _follow(self, sample: Any, wanted: tuple[int, int]) -> tuple[list[float], list[float]]:
        """Scale and offset of x and y from the stored image to the input, of (W, H) wanted."""
        kinds = [kind_of(step) for step in self.moves]
        if 'crop' in kinds:
            raise Unknown('a crop says nowhere what it cut')
        if kinds.count('flip') > 1:
            raise Unknown('of several flips only the last one is recorded')
        if kinds.count('resize') > 1 and 'pad' in kinds:
            raise Unknown('of several resizing steps only the last one is recorded')
        size: list[int] = list(required(sample, 'ori_shape')[1::-1])
        scale, offset = [1.0, 1.0], [0.0, 0.0]
        for place, (step, kind) in enumerate(zip(self.moves, kinds, strict=True)):
            if kind == 'pad':
                size = padded_size(step, size)
            elif kind == 'flip':
                for axis in flipped_axes(sample):
                    scale[axis], offset[axis] = -scale[axis], size[axis] - offset[axis]
            elif 'resize' not in kinds[:place]:  # the first one stands for all
                if kinds.count('resize') > 1:
                    factors = [new / old for new, old in zip(wanted, size, strict=True)]
                else:
                    factors = list(required(sample, 'scale_factor'))
                scale = [a * f for a, f in zip(scale, factors, strict=True)]
                offset = [b * f for b, f in zip(offset, factors, strict=True)]
                size = [round(edge * f) for edge, f in zip(size, factors, strict=True)]
        if tuple(size) != tuple(wanted):
            would = tuple(size[::-1])
            raise Unknown(f'img_shape is {wanted[::-1]}, its pipeline would give {would}')
        return scale, offset


def placement_of(pipelines: Sequence[Any]) -> Placement:
    """What the pipelines of a test's data sets do, if it is the same.

    Raises:
        Unknown: If it is not known.
    """
    found = [_placement_of(pipeline) for pipeline in pipelines]
    if not found:
        raise Unknown('the data set has no pipeline')
    if any(other.frame != found[0].frame for other in found):
        raise Unknown('the data sets load boxes in different coordinates')
    if any(not same_moves(other.moves, found[0].moves) for other in found):
        raise Unknown('the pipelines of the data sets move pixels in different ways')
    return found[0]


def pipelines_of(loader: Any) -> list[Any]:
    """The pipelines of the data sets of a loader, inside of whatever wraps them.

    Raises:
        Unknown: If a data set makes its samples in a way of its own.
    """
    return _pipelines(getattr(loader, 'dataset', None))


def _pipelines(dataset: Any) -> list[Any]:
    if dataset is None:
        return []
    for name in ('__getitem__', 'prepare_data'):
        owner = getattr(getattr(type(dataset), name, None), '__module__', 'torch') or 'torch'
        if owner.partition('.')[0] not in (*OWNERS, 'torch', 'builtins'):
            raise Unknown(f'{type(dataset).__name__} makes samples in a way of its own')
    if hasattr(dataset, 'pipeline'):
        return [dataset.pipeline]
    inside = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [pipeline for inner in inside for pipeline in _pipelines(inner)]


def _placement_of(pipeline: Any) -> Placement:
    steps = list(steps_of(pipeline))
    kinds = [kind_of(step) for step in steps]
    loading = [place for place, kind in enumerate(kinds) if kind == 'load']
    moving = [place for place, kind in enumerate(kinds) if kind in ('resize', 'flip', 'crop')]
    if not loading:
        raise Unknown('the pipeline loads no boxes')
    moves = tuple(s for s, k in zip(steps, kinds, strict=True) if k not in ('load', 'keep'))
    if not moving or loading[-1] > moving[-1]:
        if 'crop' in kinds:
            raise Unknown('a crop says nowhere what it cut')
        return Placement(ORIGINAL, moves)
    if loading[-1] < moving[0]:
        return Placement(INPUT, moves)
    raise Unknown('annotations are loaded between steps that move them')


def steps_of(pipeline: Any) -> Iterator[Any]:
    """The steps of a pipeline, those of pipelines within it among them."""
    for step in getattr(pipeline, 'transforms', ()):
        if type(step).__name__ == 'Compose' and is_known(step):
            yield from steps_of(step)
        else:
            yield step


def is_known(step: Any) -> bool:
    """Whether a step is of OpenMMLab and not of somebody who took the name of one."""
    return type(step).__module__.partition('.')[0] in OWNERS


def kind_of(step: Any) -> str:
    """What a step does: load, keep, resize, flip, pad or crop.

    Raises:
        Unknown: If that is not known.
    """
    name, known = type(step).__name__, is_known(step)
    if known and name in AUGMENTING:
        raise Unknown('test-time augmentation shows every image several times')
    if known and name in LOADING:
        return 'load' if getattr(step, 'with_bbox', True) else 'keep'
    inner = getattr(step, 'resize', None)
    if known and name in RESIZING_BY and inner is not None and kind_of(inner) == 'resize':
        return 'resize'
    kind = next((kind for kind, names in KINDS.items() if known and name in names), None)
    if kind is None:
        raise Unknown(f'{name} may move boxes')
    return kind


def same_moves(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether two data sets' images are moved by the same steps, padding to the same sizes."""

    def signature(step: Any) -> tuple:
        kind = kind_of(step)
        padding = ('size', 'size_divisor', 'pad_to_square') if kind == 'pad' else ()
        return kind, *(getattr(step, name, None) for name in padding)

    return list(map(signature, some)) == list(map(signature, others))


def padded_size(step: Any, size: Sequence[int]) -> list[int]:
    """(W, H) that a ``Pad`` step makes of (W, H), adding to the right and below."""
    wanted = [max(size)] * 2 if step.pad_to_square else list(size)
    if step.size_divisor is not None:
        wanted = [ceil(edge / step.size_divisor) * step.size_divisor for edge in wanted]
    elif step.size is not None:
        wanted = list(step.size)
    return [max(old, new) for old, new in zip(size, wanted, strict=True)]


def flipped_axes(sample: Any) -> list[int]:
    """The axes, 0 for x and 1 for y, along which an image was flipped."""
    if not required(sample, 'flip'):
        return []
    axes = {'horizontal': [0], 'vertical': [1], 'diagonal': [0, 1]}
    return axes[required(sample, 'flip_direction')]


def required(sample: Any, key: str) -> Any:
    """An entry of a sample's meta data.

    Raises:
        Unknown: If it is not there.
    """
    if key not in sample:
        raise Unknown(f"{key} is missing in the samples; add it to the packing step's meta_keys")
    return sample.get(key)


def moved(boxes: Tensor, scale: Sequence[float], offset: Sequence[float]) -> Tensor:
    """Upright boxes (n, 4) after scaling, or mirroring, and shifting x and y."""
    ends = boxes.double().view(-1, 2, 2) * boxes.new_tensor(scale, dtype=torch.double)
    ends = ends + boxes.new_tensor(offset, dtype=torch.double)
    return torch.cat([ends.min(1).values, ends.max(1).values], 1)


def boxes_of(sample: Any) -> Tensor:
    """(n, 4) ground-truth boxes of a sample as x1, y1, x2, y2.

    A classifier's sample has them as ``gt_bboxes``, where its pipeline loads and packs them
    (``PackInputs(algorithm_keys=['gt_bboxes'])``).

    Raises:
        Unknown: If it has none, or rotated ones and the like.
    """
    if 'gt_instances' not in sample and 'gt_bboxes' in sample:
        return torch.as_tensor(sample.gt_bboxes).reshape(-1, 4)
    return upright_boxes(sample.get('gt_instances', ()))


def upright_boxes(instances: Any) -> Tensor:
    """(n, 4) boxes of instances as x1, y1, x2, y2.

    Raises:
        Unknown: If they have none, or rotated ones and the like.
    """
    if 'bboxes' not in instances:
        raise Unknown('the samples have no boxes')
    boxes = instances.bboxes
    if hasattr(boxes, 'tensor'):
        if type(boxes).__name__ != 'HorizontalBoxes':
            raise Unknown(f'{type(boxes).__name__} are not upright')
        boxes = boxes.tensor
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise Unknown(f'boxes of {boxes.shape[-1]} numbers are not upright')
    return boxes
