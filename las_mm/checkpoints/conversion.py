"""Checkpoints of other projects in the names of this one: the one place where names are mapped."""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match], str]]


def _from_zero(*template: str) -> Callable[[re.Match], str]:
    """A replacement that joins ``template`` by the groups' numbers, counted from 0 not from 1."""

    def replace(match: re.Match) -> str:
        numbers = [str(int(number) - 1) for number in match.groups()]
        return ''.join(part + number for part, number in zip(template, [*numbers, ''], strict=True))

    return replace


# By a prefix that only this project's names have: regular expressions and what replaces them.
# ResNets of torchvision, timm, OpenMMLab and LASNet share their names, which are ours.
FAMILIES: dict[str, tuple[Rule, ...]] = {
    'trunk_output.': (  # RegNet of torchvision, and LASNet's
        (r'^stem\.0\.', 'conv1.'),
        (r'^stem\.1\.', 'bn1.'),
        (r'^trunk_output\.block(\d+)\.block\d+-(\d+)\.', r'layer\1.\2.'),
        (r'\.proj\.', '.downsample.'),
        (r'\.f\.a\.0\.', '.conv1.'),
        (r'\.f\.a\.1\.', '.bn1.'),
        (r'\.f\.b\.0\.', '.conv2.'),
        (r'\.f\.b\.1\.', '.bn2.'),
        (r'\.f\.c\.0\.', '.conv3.'),
        (r'\.f\.c\.1\.', '.bn3.'),
        (r'\.f\.se\.', '.se.'),
    ),
    's1.b1.': (  # RegNet of timm
        (r'^stem\.conv\.', 'conv1.'),
        (r'^stem\.bn\.', 'bn1.'),
        (r'^s(\d+)\.b(\d+)\.', lambda match: f'layer{match[1]}.{int(match[2]) - 1}.'),
        (r'\.conv(\d)\.conv\.', r'.conv\1.'),
        (r'\.conv(\d)\.bn\.', r'.bn\1.'),
        (r'\.downsample\.conv\.', '.downsample.0.'),
        (r'\.downsample\.bn\.', '.downsample.1.'),
    ),
    'features.denseblock1.': (  # DenseNet of torchvision and timm; old files write norm.1
        (r'\.(norm|conv)\.(\d)\.', r'.\1\2.'),
        (r'^features\.conv0\.', 'stem.0.'),
        (r'^features\.norm0\.', 'stem.1.'),
        (
            r'^features\.denseblock(\d+)\.denselayer(\d+)\.',
            _from_zero('stages.', '.block.', '.'),
        ),
        (r'^features\.transition(\d+)\.', _from_zero('transitions.', '.')),
        (r'^features\.norm5\.', 'transitions.3.0.'),
    ),
}
# Of LASNet's and LAUDNet's releases; RegNet's are inside of the branch there.
MASKERS: tuple[Rule, ...] = (
    (r'\.masker\.conv2\.', '.masker.conv.'),
    (r'(\.f)?\.masker_spatial\.', '.masker.'),
    (r'(\.f)?\.masker_channel\.', '.channel_masker.'),
)
WHOLE_BLOCKS: Rule = (r'\.masker\.', '.branch_masker.')
CLASSIFIER: Rule = (r'^(head\.fc|fc|classifier|linear)\.', 'head.fc.')
BACKBONE = re.compile(r'(conv1|bn1|layer\d+\.\d+|stem|stages\.\d+|transitions\.\d+)\.')
MODEL = re.compile(r'(backbone|neck|head|rpn_head|roi_head|bbox_head|mask_head)\.')


def convert_names(
    state_dict: Mapping[str, Tensor], whole_blocks: bool = False
) -> dict[str, Tensor]:
    """Rename weights to those of an mmpretrain classifier or mmdet detector with a LAS backbone.

    Args:
        state_dict: Weights of torchvision, timm, mmpretrain, mmdet or the authors' LASNet and
            LAUDNet: of a backbone, a classifier or a detector.
        whole_blocks: Whether LAUDNet's spatial maskers are of its layer skipping, which their names
            do not tell.

    Returns:
        The same tensors as ``backbone.*``, ``head.fc.*`` and whatever else a detector has.

    Raises:
        ValueError: If there are names of no known project, or it holds other than tensors.
    """
    weights = {name.removeprefix('module.'): weight for name, weight in state_dict.items()}
    rules = [*MASKERS, *([WHOLE_BLOCKS] if whole_blocks else [])]
    for prefix, family in FAMILIES.items():
        if any(name.startswith(prefix) for name in weights):
            rules += family
    converted = {}
    for name, weight in weights.items():
        if not isinstance(weight, Tensor):
            raise ValueError(f'checkpoint: {name!r} is no weight but a {type(weight).__name__}')
        converted[_target_name(name, rules)] = weight
    return converted


def _target_name(name: str, rules: list[Rule]) -> str:
    renamed = name
    for pattern, replacement in rules:
        renamed = re.sub(pattern, replacement, renamed)
    renamed = re.sub(*CLASSIFIER, renamed)
    if BACKBONE.match(renamed):
        renamed = f'backbone.{renamed}'
    if not MODEL.match(renamed):
        raise ValueError(
            f'checkpoint: {name!r} is a name of no known project; allowed are checkpoints of '
            'ResNet, RegNet and DenseNet by torchvision, timm, mmpretrain, mmdet, LASNet and '
            'LAUDNet'
        )
    return renamed
