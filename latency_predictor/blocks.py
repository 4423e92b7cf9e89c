"""The usual blocks as BlockSpec: ResNet's two, MobileNetV2's and DenseNet's."""

from .chain import Conv, chain, concatenation, gate_after, projection
from .checks import require_integer
from .spec import DILATED, BlockSpec, LayerSpec, Size


def bottleneck(
    name: str,
    stage: int,
    in_channels: int,
    mid_channels: int,
    out_channels: int,
    height: int,
    width: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    shortcut: bool = False,
    granularity: int | str | None = None,
    se_channels: int = 0,
    conv1_stride: int | None = None,
    conv1_dilation: int | None = None,
    conv2_dilation: int | None = None,
    input_size: Size | None = None,
) -> BlockSpec:
    """ResNet's bottleneck: 1x1, 3x3, 1x1.

    Args:
        name: As in :class:`~latency_predictor.BlockSpec`.
        stage: As in the class.
        in_channels: Of the input.
        mid_channels: Between the convolutions.
        out_channels: Of the output.
        height: Of the *output* map, after the stride.
        width: Of the output map.
        stride: Of the block; the 3x3 convolution has it unless ``conv1_stride`` takes it.
        dilation: Of the 3x3 convolution.
        groups: Of the 3x3 convolution.
        shortcut: Whether the identity goes through a (dense) 1x1 convolution.
        granularity: As in the class.
        se_channels: Inside a squeeze-and-excitation after the 3x3 convolution; 0 for none.
        conv1_stride: Of the first convolution, the block's in style ``'caffe'``; None for 1.
        conv1_dilation: Of the first convolution; None for 1.
        conv2_dilation: Of the second convolution; None for ``dilation``.
        input_size: (height, width) of the input; None for that of the output times the stride.

    Raises:
        ValueError: If a number is not one of the allowed ones.
    """
    _check(name, in_channels=in_channels, mid_channels=mid_channels, out_channels=out_channels)
    _check(name, height=height, width=width, stride=stride, dilation=dilation, groups=groups)
    require_integer(f'block {name!r}, se_channels', se_channels, 0)
    if mid_channels % groups:
        raise ValueError(
            f'block {name!r}, groups: got {groups}; give a divisor of mid_channels = {mid_channels}'
        )
    source, first = _source(name, (height, width), stride, conv1_stride or 1, input_size)
    convs = (
        Conv('conv1', mid_channels, 1, first, 1, conv1_dilation or 1, DILATED),
        Conv('conv2', mid_channels, 3, stride // first, groups, conv2_dilation or dilation),
        Conv('conv3', out_channels),
    )
    one, two, three = chain(in_channels, source, convs)
    gate = (gate_after(two, se_channels),) if se_channels else ()
    return BlockSpec(
        name,
        stage,
        (one, two, *gate, three),
        source,
        _shortcut(shortcut, in_channels, three, stride),
        granularity=granularity,
    )


def basic(
    name: str,
    stage: int,
    in_channels: int,
    out_channels: int,
    height: int,
    width: int,
    stride: int = 1,
    dilation: int = 1,
    shortcut: bool = False,
    granularity: int | str | None = None,
    se_channels: int = 0,
    conv1_stride: int | None = None,
    conv1_dilation: int | None = None,
    conv2_dilation: int | None = None,
    input_size: Size | None = None,
    mid_channels: int | None = None,
    groups: int = 1,
) -> BlockSpec:
    """ResNet's basic block: 3x3, 3x3.

    Args:
        name: As in :func:`bottleneck`, and so are all others that are not named here.
        stage: See there.
        in_channels: See there.
        out_channels: See there.
        height: See there.
        width: See there.
        stride: Of the block; the first convolution has it unless ``conv1_stride`` differs.
        dilation: Of the first convolution.
        shortcut: See there.
        granularity: See there.
        se_channels: Inside a squeeze-and-excitation after the last convolution; 0 for none.
        conv1_stride: Of the first convolution; None for ``stride``.
        conv1_dilation: Of the first convolution; None for ``dilation``.
        conv2_dilation: Of the second convolution; None for 1.
        input_size: See there.
        mid_channels: Between the convolutions; None for ``out_channels``.
        groups: There are none: 1.

    Raises:
        ValueError: If a number is not one of the allowed ones.
    """
    if groups != 1:
        raise ValueError(f'block {name!r}, groups: got {groups!r}; give 1 for a basic block')
    inner = out_channels if mid_channels is None else mid_channels
    _check(name, in_channels=in_channels, mid_channels=inner, out_channels=out_channels)
    _check(name, height=height, width=width, stride=stride, dilation=dilation)
    require_integer(f'block {name!r}, se_channels', se_channels, 0)
    source, first = _source(name, (height, width), stride, conv1_stride or stride, input_size)
    convs = (
        Conv('conv1', inner, 3, first, 1, conv1_dilation or dilation, DILATED),
        Conv('conv2', out_channels, 3, stride // first, 1, conv2_dilation or 1),
    )
    one, two = chain(in_channels, source, convs)
    gate = (gate_after(two, se_channels),) if se_channels else ()
    return BlockSpec(
        name,
        stage,
        (one, two, *gate),
        source,
        _shortcut(shortcut, in_channels, two, stride),
        granularity=granularity,
    )


def inverted_residual(
    name: str,
    stage: int,
    in_channels: int,
    out_channels: int,
    input_size: Size,
    stride: int = 1,
    expand_ratio: int = 6,
    granularity: int | str | None = None,
    kernel: int = 3,
) -> BlockSpec:
    """MobileNetV2's block: 1x1 to more channels, depthwise 3x3, linear 1x1 to few.

    Args:
        name: As in :class:`~latency_predictor.BlockSpec`.
        stage: As in the class.
        in_channels: Of the input.
        out_channels: Of the output; where they or the stride change the shape, nothing is added.
        input_size: (height, width) of the input.
        stride: Of the depthwise convolution.
        expand_ratio: Inner channels for each input channel; 1 leaves the first layer out.
        granularity: As in the class.
        kernel: Edge of the depthwise convolution.

    Raises:
        ValueError: If a number is not one of the allowed ones.
    """
    _check(name, in_channels=in_channels, out_channels=out_channels, stride=stride)
    _check(name, expand_ratio=expand_ratio, kernel=kernel)
    inner = in_channels * expand_ratio
    convs = (
        Conv('conv1', inner, share=DILATED),
        Conv('conv2', inner, kernel, stride, groups=inner),
        Conv('conv3', out_channels),
    )
    layers = chain(in_channels, input_size, convs if expand_ratio > 1 else convs[1:])
    join = 'add' if stride == 1 and in_channels == out_channels else 'none'
    return BlockSpec(name, stage, layers, input_size, join=join, granularity=granularity)


def dense_layer(
    name: str,
    stage: int,
    in_channels: int,
    mid_channels: int,
    growth: int,
    input_size: Size,
    granularity: int | str | None = None,
) -> BlockSpec:
    """A layer of DenseNet: all features before it are copied into one map, then 1x1 and 3x3.

    The norm and the activation before the first convolution go with the copy, those before the
    second with the first's output.

    Args:
        name: As in :class:`~latency_predictor.BlockSpec`.
        stage: As in the class.
        in_channels: Of all features before it.
        mid_channels: Between the convolutions.
        growth: New features.
        input_size: (height, width).
        granularity: As in the class.

    Raises:
        ValueError: If a number is not one of the allowed ones.
    """
    _check(name, in_channels=in_channels, mid_channels=mid_channels, growth=growth)
    convs = (Conv('conv1', mid_channels, share=DILATED), Conv('conv2', growth, 3))
    copy = concatenation(in_channels, input_size)
    layers = copy, *chain(in_channels, input_size, convs)
    return BlockSpec(name, stage, layers, input_size, join='concat', granularity=granularity)


def _check(name: str, **values: int) -> None:
    for field, value in values.items():
        require_integer(f'block {name!r}, {field}', value, 1)


def _source(
    name: str, size: Size, stride: int, first: int, source: Size | None
) -> tuple[Size, int]:
    """(height, width) of the input, and the stride of the first convolution; both must fit."""
    _check(name, conv1_stride=first)
    if stride % first:
        raise ValueError(
            f'block {name!r}, conv1_stride: got {first}; give a divisor of stride = {stride}'
        )
    if source is None:
        return (size[0] * stride, size[1] * stride), first
    if [-(-edge // stride) for edge in source] != list(size):
        raise ValueError(
            f'block {name!r}, input_size: got {tuple(source)}; give what stride {stride} makes '
            f'{size[0]}x{size[1]} of'
        )
    return (source[0], source[1]), first


def _shortcut(wanted: bool, in_channels: int, last: LayerSpec, stride: int) -> tuple:
    return (projection(in_channels, last.out_channels, last.size, stride),) if wanted else ()
