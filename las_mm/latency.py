"""The adapter between the two halves: a dynamic backbone as the latency predictor sees it."""

from torch import nn

from las_mm.layers import DynamicBlock
from las_mm.models.backbone import DynamicBackbone
from las_mm.ops import conv_size
from latency_predictor import BlockSpec, LayerSpec, NetworkSpec

Size = tuple[int, int]


def describe_backbone(backbone: DynamicBackbone, input_size: Size) -> NetworkSpec | None:
    """The backbone's operators and blocks at an input size.

    Args:
        backbone: The dynamic backbone.
        input_size: (H, W) of the images.

    Returns:
        The description; None for a backbone of other than residual blocks, of which the predictor
        has no model.
    """
    if not all(hasattr(block, 'downsample') for block in backbone.blocks):
        return None
    stem, size = _describe_stem(backbone, input_size)
    blocks = []
    for stage, members in enumerate(backbone.dynamic_stages.values()):
        for block in members:
            size = conv_size(size, block.stride_product)
            blocks.append(describe_block(block, stage, size))
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


def describe_block(block: DynamicBlock, stage: int, size: Size) -> BlockSpec:
    """One block, given its stage, from 0, and the (H, W) of its output."""
    convs = [conv for conv, _ in block.branch_layers()]
    return BlockSpec(
        name=block.name,
        stage=stage,
        kind='bottleneck' if len(convs) == 3 else 'basic',
        in_channels=block.conv1.in_channels,
        mid_channels=block.conv1.out_channels,
        out_channels=convs[-1].out_channels,
        height=size[0],
        width=size[1],
        stride=block.stride_product,
        dilation=block.conv2.dilation[0],
        groups=block.conv2.groups,
        shortcut=block.downsample is not None,
        granularity=min(block.masker.granularity, max(size)),
        se_channels=block.gate_convs[0].out_channels if block.gate_convs else 0,
    )


def _describe_stem(backbone: DynamicBackbone, size: Size) -> tuple[list[LayerSpec], Size]:
    stem, channels = [], 0
    for layer in backbone.stem_layers:
        stride = layer.stride if isinstance(layer.stride, int) else layer.stride[0]
        size = conv_size(size, stride)
        if isinstance(layer, nn.Conv2d):
            channels = layer.out_channels
            stem.append(_layer('conv', layer.in_channels, channels, size, layer))
        else:
            stem.append(_layer('max_pool', channels, channels, size, layer))
    return stem, size


def _layer(
    kind: str, inputs: int, outputs: int, size: Size, module: nn.Conv2d | nn.MaxPool2d
) -> LayerSpec:
    kernel, stride = module.kernel_size, module.stride
    return LayerSpec(
        kind,
        inputs,
        outputs,
        height=size[0],
        width=size[1],
        kernel=kernel if isinstance(kernel, int) else kernel[0],
        stride=stride if isinstance(stride, int) else stride[0],
    )
