"""The adapter between the two halves: a dynamic backbone as the latency predictor sees it."""

from torch import nn

from las_mm.layers import DynamicBlock, convs_of
from las_mm.models.backbone import DynamicBackbone, StemLayer, size_after
from las_mm.ops import conv_size
from latency_predictor import BlockSpec, LayerSpec, NetworkSpec

Size = tuple[int, int]


def describe_backbone(backbone: DynamicBackbone, input_size: Size) -> NetworkSpec | None:
    """The backbone's operators and blocks at an input size.

    Args:
        backbone: The dynamic backbone.
        input_size: (H, W) of the images.

    Returns:
        The description; None for a backbone of other than residual blocks, or that skips channels,
        of which the predictor has no model.
    """
    if not all(hasattr(block, 'downsample') for block in backbone.blocks):
        return None
    if any(group is not None for group in backbone.channel_groups):
        return None
    stem, size = _describe_stem(backbone, input_size)
    blocks = []
    for stage, members in enumerate(backbone.dynamic_stages.values()):
        for block in members:
            blocks.append(describe_block(block, stage, size))
            size = conv_size(size, block.stride_product)
    return NetworkSpec(
        name=backbone.title,
        input_size=input_size,
        stem=tuple(stem),
        blocks=tuple(blocks),
    )


def require_description(backbone: DynamicBackbone, input_size: Size) -> NetworkSpec:
    """:func:`describe_backbone`, for what cannot do without.

    Raises:
        ValueError: If the predictor has no model of the backbone.
    """
    network = describe_backbone(backbone, input_size)
    if network is None:
        raise ValueError(
            f'backbone: the latency predictor has no model of {backbone.title}, only of residual '
            'blocks; take a LASResNet or LASRegNet, or a share of FLOPs as target'
        )
    return network


def describe_block(block: DynamicBlock, stage: int, input_size: Size) -> BlockSpec:
    """One block, given its stage, from 0, and the (H, W) of its input."""
    branch = block.branch
    convs, gate = [step.op for step in branch.steps], convs_of(branch.gate)
    masker = block.spatial_masker
    size = conv_size(input_size, branch.stride)
    basic = len(convs) == 2
    return BlockSpec(
        name=block.name,
        stage=stage,
        kind='basic' if basic else 'bottleneck',
        in_channels=block.conv1.in_channels,
        mid_channels=block.conv1.out_channels,
        out_channels=convs[-1].out_channels,
        height=size[0],
        width=size[1],
        stride=branch.stride,
        dilation=convs[0 if basic else 1].dilation[0],
        groups=convs[1].groups,
        shortcut=branch.shortcut is not None,
        granularity=None if masker is None else min(masker.granularity or max(size), max(size)),
        se_channels=gate[0].out_channels if gate else 0,
        conv1_stride=None if basic or convs[0].stride[0] == 1 else convs[0].stride[0],
        conv2_dilation=convs[1].dilation[0] if basic and convs[1].dilation[0] > 1 else None,
        input_size=input_size,
    )


def _describe_stem(backbone: DynamicBackbone, size: Size) -> tuple[list[LayerSpec], Size]:
    stem, channels = [], 0
    for layer in backbone.stem_layers:
        size = size_after(layer, size)
        if isinstance(layer, nn.Conv2d):
            channels = layer.out_channels
            stem.append(_layer('conv', layer.in_channels, channels, size, layer))
        else:
            kind = 'max_pool' if isinstance(layer, nn.MaxPool2d) else 'avg_pool'
            stem.append(_layer(kind, channels, channels, size, layer))
    return stem, size


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
