"""Light networks as NetworkSpec: MobileNetV2, and ResNets for CIFAR."""

from collections.abc import Sequence

from .blocks import basic, inverted_residual
from .network import Granularity, NetworkSpec, parse_granularity
from .spec import BlockSpec, LayerSpec, Size

# Expansion, channels, blocks and stride (Sandler et al., "MobileNetV2", Table 2).
_MOBILENET_V2 = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
_FIRST, _LAST = 32, 1280
# 6n + 2 layers (He et al., "Deep residual learning", Sec. 4.2).
CIFAR_DEPTHS = (20, 32, 44, 56, 110)


def mobilenet_v2(image: Size, granularity: Granularity = None, head: bool = False) -> NetworkSpec:
    """MobileNetV2 of width 1, whose blocks without a shortcut are layers that always run.

    Args:
        image: (height, width) in pixels.
        granularity: S_net, one S for each of the five stages with a shortcut, such as '4-4-2-2-1'.
        head: Whether to append ImageNet's classifier, of 1000 classes.

    Raises:
        ValueError: If there are not five values of S.
    """
    grains = parse_granularity(granularity, 5)
    size, channels = _divided(image, 2), _FIRST
    stem, blocks = [LayerSpec('conv', 3, _FIRST, *size, kernel=3, stride=2)], []
    between: list[LayerSpec] = []
    stage = -1
    for number, (expand, width, count, stride) in enumerate(_MOBILENET_V2, 1):
        stage += count > 1
        for index in range(count):
            step = 1 if index else stride
            grain = grains[stage] if index else None
            block = inverted_residual(
                f'layer{number}.{index}', max(stage, 0), channels, width, size, step, expand, grain
            )
            size, channels = _divided(size, step), width
            if block.join == 'add':
                blocks.append(block)
            else:
                (between if blocks else stem).extend(_as_layers(block))
    between.append(LayerSpec('conv', channels, _LAST, *size))
    layers = classifier(_LAST, size, 1000) if head else ()
    return NetworkSpec('mobilenet_v2', image, tuple(blocks), tuple(stem), layers, tuple(between))


def resnet_cifar(
    depth: int, image: Size, granularity: Granularity = None, head: bool = False
) -> NetworkSpec:
    """ResNet for CIFAR of 16, 32 and 64 channels, with convolutions in its shortcuts (option B).

    Args:
        depth: One of CIFAR_DEPTHS.
        image: (height, width) in pixels.
        granularity: S_net, one S for each of the three stages, such as '4-4-2'.
        head: Whether to append CIFAR's classifier, of 10 classes.

    Raises:
        ValueError: If there is no such depth, or there are not three values of S.
    """
    if depth not in CIFAR_DEPTHS:
        allowed = ', '.join(map(str, CIFAR_DEPTHS))
        raise ValueError(f'depth: got {depth!r}; choose one of {allowed}')
    grains = parse_granularity(granularity, 3)
    size, channels, blocks = image, 16, []
    for stage, width in enumerate((16, 32, 64)):
        for index in range((depth - 2) // 6):
            stride = 2 if stage and not index else 1
            before, size = size, _divided(size, stride)
            blocks.append(
                basic(
                    f'layer{stage + 1}.{index}',
                    stage,
                    channels,
                    width,
                    *size,
                    stride=stride,
                    shortcut=channels != width,
                    granularity=grains[stage],
                    input_size=before,
                )
            )
            channels = width
    stem = (LayerSpec('conv', 3, 16, *image, kernel=3),)
    layers = classifier(channels, size, 10) if head else ()
    return NetworkSpec(f'resnet{depth}_cifar', image, tuple(blocks), stem, layers)


def classifier(channels: int, size: Size, classes: int) -> tuple[LayerSpec, ...]:
    """Pooling over a whole map and a linear layer."""
    pool = LayerSpec('avg_pool', channels, channels, stride=max(size), kernel=max(size))
    return pool, LayerSpec('fc', channels, classes)


def _as_layers(block: BlockSpec) -> list[LayerSpec]:
    """The layers of a block that skips nothing."""
    return [
        LayerSpec(
            layer.kind,
            layer.in_channels,
            layer.out_channels,
            *layer.size,
            kernel=layer.kernel,
            stride=layer.stride,
            groups=layer.groups,
        )
        for layer in block.layers
    ]


def _divided(size: Sequence[int], stride: int) -> Size:
    return -(-size[0] // stride), -(-size[1] // stride)
