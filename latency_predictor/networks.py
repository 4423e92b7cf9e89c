"""Networks by name: ResNet-18 to 152 and RegNetY of the paper, light ones, transformers."""

from collections.abc import Sequence
from typing import Any

from .blocks import basic, bottleneck
from .light_networks import CIFAR_DEPTHS, classifier, mobilenet_v2, resnet_cifar
from .network import Granularity, NetworkSpec, parse_granularity
from .spec import LayerSpec
from .transformers import TRANSFORMER_NAMES, transformer

# Blocks per stage (He et al., "Deep residual learning", Table 1).
_RESNET_DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

# (blocks per stage, widths per stage, group width): RegNetY as in torchvision, derived from
# Radosavovic et al., "Designing network design spaces". SE: a quarter of the block's input width.
_REGNETY = {
    '400mf': ((1, 3, 6, 6), (48, 104, 208, 440), 8),
    '800mf': ((1, 3, 8, 2), (64, 144, 320, 784), 16),
}

NETWORK_NAMES = (
    *(f'resnet{depth}' for depth in _RESNET_DEPTHS),
    *(f'regnety_{size}' for size in _REGNETY),
    'mobilenet_v2',
    *(f'resnet{depth}_cifar' for depth in CIFAR_DEPTHS),
    *TRANSFORMER_NAMES,
)


def _input_size(input_size: int | Sequence[int]) -> tuple[int, int]:
    size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    whole = all(isinstance(edge, int) and not isinstance(edge, bool) for edge in size)
    if len(size) != 2 or not whole or min(size) < 32:
        raise ValueError(
            f'input_size: got {input_size!r}; give one integer or (height, width), each >= 32'
        )
    return size[0], size[1]


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def resnet(
    depth: int,
    input_size: int | Sequence[int] = 224,
    granularity: Granularity = None,
    head: bool = False,
    base_channels: int = 64,
) -> NetworkSpec:
    """ResNet with the stride in the 3x3 convolution (torchvision's and mmdet's 'pytorch' style).

    Args:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        input_size: One edge or (height, width) in pixels.
        granularity: S_net like '4-4-7-1' or (4, 4, 7, 1); None is the static network.
        head: Append the 1000-class ImageNet classifier.
        base_channels: Width of the stem, 64 in the standard networks.
    """
    if depth not in _RESNET_DEPTHS:
        raise ValueError(
            f'depth: got {depth!r}; choose one of {", ".join(map(str, _RESNET_DEPTHS))}'
        )
    sizes = parse_granularity(granularity, 4)
    image = _input_size(input_size)
    half = _halved(image)
    size = _halved(half)
    stem = (
        LayerSpec('conv', 3, base_channels, *half, kernel=7, stride=2),
        LayerSpec('max_pool', base_channels, base_channels, *size, kernel=3, stride=2),
    )
    expansion = 1 if depth < 50 else 4
    blocks, channels = [], base_channels
    for stage, count in enumerate(_RESNET_DEPTHS[depth]):
        mid = base_channels << stage
        before, size = size, _halved(size) if stage else size
        for index in range(count):
            stride = 2 if stage and not index else 1
            name, common = f'layer{stage + 1}.{index}', (stage, channels)
            options: dict[str, Any] = {
                'stride': stride,
                'shortcut': stride > 1 or channels != mid * expansion,
                'granularity': sizes[stage],
                'input_size': size if index else before,
            }
            if expansion == 1:
                blocks.append(basic(name, *common, mid, *size, **options))
            else:
                blocks.append(bottleneck(name, *common, mid, mid * expansion, *size, **options))
            channels = mid * expansion
    return NetworkSpec(
        f'resnet{depth}',
        image,
        tuple(blocks),
        stem,
        classifier(channels, size, 1000) if head else (),
    )


def regnet(
    name: str,
    input_size: int | Sequence[int] = 224,
    granularity: Granularity = None,
    head: bool = False,
) -> NetworkSpec:
    """RegNetY: bottleneck ratio 1, grouped 3x3, squeeze-and-excitation.

    Args:
        name: '400mf' or '800mf'.
        input_size, granularity, head: As for ``resnet``.
    """
    if name not in _REGNETY:
        raise ValueError(f'regnet: got {name!r}; choose one of {", ".join(_REGNETY)}')
    depths, widths, group_width = _REGNETY[name]
    sizes = parse_granularity(granularity, 4)
    image = _input_size(input_size)
    size = _halved(image)
    stem = (LayerSpec('conv', 3, 32, *size, kernel=3, stride=2),)
    blocks, channels = [], 32
    for stage, (count, width) in enumerate(zip(depths, widths, strict=True)):
        before, size = size, _halved(size)
        for index in range(count):
            blocks.append(
                bottleneck(
                    f'block{stage + 1}.{index}',
                    stage,
                    channels,
                    width,
                    width,
                    *size,
                    stride=1 if index else 2,
                    groups=width // group_width,
                    shortcut=not index,
                    granularity=sizes[stage],
                    se_channels=round(channels / 4),
                    input_size=size if index else before,
                )
            )
            channels = width
    return NetworkSpec(
        f'regnety_{name}',
        image,
        tuple(blocks),
        stem,
        classifier(channels, size, 1000) if head else (),
    )


def usual_granularity(name: str) -> str:
    """S_net that a network is predicted with where none is asked for.

    Args:
        name: As for :func:`build_network`.
    """
    family, _, size = str(name).lower().partition('_')
    if str(name).lower() in TRANSFORMER_NAMES:
        return '1'
    if family == 'mobilenet':
        return '4-4-2-2-1'
    return '4-4-2' if size == 'cifar' else '4-4-7-1'


def build_network(
    name: str,
    input_size: int | Sequence[int] | None = None,
    granularity: Granularity = None,
    head: bool = False,
) -> NetworkSpec:
    """Network by name (NETWORK_NAMES) or from a .yaml/.yml/.json file written by NetworkSpec.

    A file gives its own input size and granularity; a granularity given here replaces the latter.
    Without an input size it is 224, of a ResNet for CIFAR 32.
    """
    text = str(name)
    if text.endswith(('.yaml', '.yml', '.json')):
        network = NetworkSpec.load(text)
        return network if granularity is None else network.with_granularity(granularity)
    if text.lower() not in NETWORK_NAMES:
        raise ValueError(
            f'network: got {text!r}; choose one of {", ".join(NETWORK_NAMES)}, or give a .yaml or '
            '.json file'
        )
    family, _, size = text.lower().partition('_')
    input_size = input_size or (32 if size == 'cifar' else 224)
    if text.lower() in TRANSFORMER_NAMES:
        return transformer(text.lower(), _input_size(input_size), granularity, head)
    if family == 'regnety':
        return regnet(size, input_size, granularity, head)
    if family == 'mobilenet':
        return mobilenet_v2(_input_size(input_size), granularity, head)
    if size == 'cifar':
        depth = int(family[len('resnet') :])
        return resnet_cifar(depth, _input_size(input_size), granularity, head)
    return resnet(int(text[len('resnet') :]), input_size, granularity, head)
