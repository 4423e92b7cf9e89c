"""The data sets of docs/experiments.md and what is trained on each."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """A data set and what is trained on it.

    Attributes:
        title: What the page calls it.
        text: What the page says of the data and the training.
        config: Of the dynamic network, below ``configs/experiments``.
        metric: The accuracy.
        dynamic: The networks that are made dynamic, by their names in ``networks``.
        networks: Options of each network, by their names in the model. All are static rivals.
        weights: Published weights that a network starts from.
        headline: t, mode and distillation that are trained with every seed.
        others: Those that are trained with the first seed.
        first_epochs: Length of the static training that all others of a network start from; 0 where
            they start from the published weights themselves.
        masker: Options of the maskers.
        factor: Of the metric, to make it percent.
    """

    title: str
    text: str
    config: str
    metric: str
    dynamic: tuple[str, ...]
    networks: dict[str, dict[str, Any]]
    headline: tuple[tuple[float, str, str], ...]
    others: tuple[tuple[float, str, str], ...]
    weights: dict[str, str] = field(default_factory=dict)
    first_epochs: int = 0
    masker: dict[str, Any] = field(default_factory=dict)
    factor: float = 1.0


CIFAR10 = 'data/cifar10/resnet'
CELLS: dict[str, Any] = dict(
    text=(
        'Microscope images of 640×480 pixels, seen at 320×240; mAP at an overlap of .5 on the test '
        'split. A ResNet-50 of half width starts from published weights (tools/prepare_data.py), '
        'ResNet-18 from scratch; all are trained twelve epochs, then six further.'
    ),
    metric='coco/bbox_mAP_50',
    factor=100.0,
    dynamic=('r50-half', 'r18'),
    networks={
        'r50-half': {},
        'r18': {
            'backbone.depth': 18,
            'backbone.base_channels': 64,
            'backbone.style': 'pytorch',
            'backbone.frozen_stages': -1,
            'backbone.norm_eval': False,
            'neck.in_channels': [64, 128, 256, 512],
        },
    },
    weights={'r50-half': 'data/cells/open-nsfw.pth'},
    headline=((0.5, '4-4-2-1', 'no'), (0.4, '4-4-2-1', 'no')),
    others=(),
    first_epochs=12,
    masker=dict(keep_bias=2.0),
)
TASKS = {
    'cifar10': Task(
        title='CIFAR-10',
        text=(
            'Images as JPEG files (tools/prepare_data.py says from where), which costs accuracy: '
            'only rows of this table compare. '
            'ResNet-56 and -20 start from published networks; ResNet-44 and -32 from the first '
            'blocks of each stage of ResNet-56. All are trained two epochs further.'
        ),
        config='cifar10.py',
        metric='accuracy/top1',
        dynamic=('r56',),
        networks={f'r{depth}': {'backbone.depth': depth} for depth in (56, 44, 32, 20)},
        weights={
            'r56': CIFAR10 + '56.pth',
            'r44': CIFAR10 + '56_cut_to_44.pth',
            'r32': CIFAR10 + '56_cut_to_32.pth',
            'r20': CIFAR10 + '20.pth',
        },
        headline=((0.5, '4-4-2', 'no'),),
        others=(
            (0.5, '4-4-2', 'teacher'),
            (0.4, '4-4-2', 'no'),
            (0.5, '1-1-1', 'no'),
            (0.5, 'all', 'no'),
            (0.7, '4-4-2', 'no'),
            (0.5, '4-4-2', 'reverse'),
            (0.5, 'channel-2-2-2', 'no'),
            (0.5, '8-4-4', 'no'),
            (0.5, 'dynconv', 'no'),
            (0.4, '1-1-1', 'no'),
            (0.4, 'all', 'no'),
            (0.4, 'channel-2-2-2', 'no'),
            (0.4, '4-4-2', 'teacher'),
            (0.7, '4-4-2', 'teacher'),
            (0.7, '1-1-1', 'no'),
            (0.7, 'all', 'no'),
            (0.7, 'channel-2-2-2', 'no'),
            (0.4, '8-4-4', 'no'),
            (0.7, '8-4-4', 'no'),
            (0.4, 'dynconv', 'no'),
            (0.7, 'dynconv', 'no'),
        ),
    ),
    'tiny20': Task(
        title='Photographs with an object box (Tiny-ImageNet, 20 classes)',
        text=(
            'Photographs of 64×64 pixels, enlarged to 128×128 for the usual stem. ResNets of half '
            'width are trained from scratch for thirty epochs, then all six further.'
        ),
        config='tiny20.py',
        metric='accuracy/top1',
        dynamic=('r34', 'r18'),
        networks={f'r{depth}': {'backbone.depth': depth} for depth in (34, 18)},
        headline=((0.5, '4-4-2-1', 'no'),),
        others=(
            (0.7, '4-4-2-1', 'no'),
            (0.4, '4-4-2-1', 'no'),
            (0.5, '1-1-1-1', 'no'),
            (0.5, 'all', 'no'),
            (0.4, '1-1-1-1', 'no'),
            (0.4, 'all', 'no'),
            (0.7, '1-1-1-1', 'no'),
            (0.7, 'all', 'no'),
        ),
        first_epochs=30,
    ),
    'cells': Task(
        title='Blood cells, Faster R-CNN',
        config='cells_faster_rcnn.py',
        **CELLS,
    ),
    'cells_retinanet': Task(
        title='Blood cells, RetinaNet',
        config='cells_retinanet.py',
        **CELLS,
    ),
}
