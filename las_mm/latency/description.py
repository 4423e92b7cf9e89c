"""The adapter between the two halves: a dynamic backbone as the latency predictor sees it."""

from collections.abc import Sequence

from torch import nn

from las_mm.layers import (
    BRANCH,
    DILATED,
    SITES,
    Branch,
    DynamicBlock,
    Step,
    convs_of,
)
from las_mm.layers.squeeze_masker import SqueezeMasker
from las_mm.models.backbone import DynamicBackbone
from las_mm.models.stem import StemLayer, size_after
from las_mm.models.transformer import DynamicTransformer
from las_mm.ops import WHOLE, conv_size
from latency_predictor import BlockSpec, Conv, LayerSpec, NetworkSpec, chain
from latency_predictor.chain import concatenation, gate_after, projection
from latency_predictor.spec import CHANNELS

from .encoders import describe_transformer

Size = tuple[int, int]


def describe_backbone(backbone: DynamicBackbone, input_size: Size) -> NetworkSpec | None:
    """The backbone's operators and blocks at an input size.

    Args:
        backbone: The dynamic backbone.
        input_size: (H, W) of the images.

    Returns:
        The description; None for a backbone with blocks of which the predictor has no model: only
        the first two convolutions of a block may be larger than 1×1.
    """
    if isinstance(backbone, DynamicTransformer):
        return describe_transformer(backbone, input_size)
    if not all(has_model(b.branch) for b in backbone.blocks):
        return None
    stem, size = _describe_layers(backbone.stem_layers, input_size)
    blocks: list[BlockSpec] = []
    between: list[LayerSpec] = []
    for stage, members in enumerate(backbone.dynamic_stages.values()):
        for block in members:
            blocks.append(describe_block(block, stage, size))
            size = conv_size(size, block.stride_product)
        if blocks[-1].join == 'concat':  # the stage ends with all of its features in one map
            between.append(concatenation(blocks[-1].in_channels + blocks[-1].out_channels, size))
        layers, size = _describe_layers(backbone.layers_after(stage), size)
        between += layers
    return NetworkSpec(
        name=backbone.title,
        input_size=input_size,
        stem=tuple(stem),
        blocks=tuple(blocks),
        between=tuple(between),
    )


def require_description(backbone: DynamicBackbone, input_size: Size) -> NetworkSpec:
    """:func:`describe_backbone`, for what cannot do without.

    Raises:
        ValueError: If the predictor has no model of the backbone.
    """
    network = describe_backbone(backbone, input_size)
    if network is None:
        raise ValueError(
            f'backbone: the latency predictor has no model of {backbone.title}, whose blocks '
            'have more than two convolutions larger than 1x1; take another backbone, or a share of '
            'FLOPs as target'
        )
    return network


def has_model(branch: Branch) -> bool:
    """Whether the predictor has a model of blocks of convolutions with this branch."""
    return all(step.op.kernel_size == (1, 1) and step.stride == 1 for step in branch.steps[2:])


def describe_block(block: DynamicBlock, stage: int, input_size: Size) -> BlockSpec:
    """One block, given its stage, from 0, and the (H, W) of its input."""
    branch = block.branch
    inputs = branch.steps[0].op.in_channels
    layers = list(chain(inputs, input_size, [_describe_step(step) for step in branch.steps]))
    last, gate = layers[-1], convs_of(branch.gate)
    if gate:
        layers.insert(-1, gate_after(layers[-2], gate[0].out_channels))
    if branch.join == 'concat':
        layers.insert(0, concatenation(inputs, input_size))
    grains = {masker.axis: masker.granularity for masker in block.maskers}
    granularity: int | str | None = WHOLE if BRANCH in grains else grains.get(SITES)
    if isinstance(granularity, int):
        granularity = min(granularity, max(last.size))
    return BlockSpec(
        name=block.name,
        stage=stage,
        layers=tuple(layers),
        input_size=input_size,
        shortcut=_describe_shortcut(branch, inputs, last),
        join=branch.join,
        granularity=granularity,
        channel_group=grains.get(CHANNELS),
        masker='squeeze' if any(isinstance(m, SqueezeMasker) for m in block.maskers) else 'pool',
    )


def _describe_shortcut(branch: Branch, inputs: int, last: LayerSpec) -> tuple[LayerSpec, ...]:
    """Nothing, a convolution, or, where it has none, a copy of some pixels."""
    if branch.shortcut is None:
        return ()
    if convs_of(branch.shortcut):
        return (projection(inputs, last.out_channels, last.size, branch.stride),)
    outputs, (height, width) = last.out_channels, last.size
    return (LayerSpec('avg_pool', inputs, outputs, height, width, stride=branch.stride),)


def _describe_step(step: Step) -> Conv:
    conv = step.op
    share = DILATED if DILATED in step.runs_at else SITES
    geometry = conv.kernel_size[0], conv.stride[0], conv.groups, conv.dilation[0]
    return Conv(step.name, conv.out_channels, *geometry, share)


def _describe_layers(layers: Sequence[StemLayer], size: Size) -> tuple[list[LayerSpec], Size]:
    """Convolutions and pooling in a row, and the (H, W) that they leave of an input's."""
    described, channels = [], 0
    for layer in layers:
        size = size_after(layer, size)
        if isinstance(layer, nn.Conv2d):
            channels = layer.out_channels
            described.append(_layer('conv', layer.in_channels, channels, size, layer))
        else:
            kind = 'max_pool' if isinstance(layer, nn.MaxPool2d) else 'avg_pool'
            described.append(_layer(kind, channels, channels, size, layer))
    return described, size


def _layer(kind: str, inputs: int, outputs: int, size: Size, module: StemLayer) -> LayerSpec:
    kernel, stride = module.kernel_size, module.stride
    groups, dilation = 1, 1
    if isinstance(module, nn.Conv2d):
        groups, dilation = module.groups, module.dilation[0]
    return LayerSpec(
        kind,
        inputs,
        outputs,
        height=size[0],
        width=size[1],
        kernel=kernel if isinstance(kernel, int) else kernel[0],
        stride=stride if isinstance(stride, int) else stride[0],
        groups=groups,
        dilation=dilation,
    )
