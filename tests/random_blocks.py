"""Random dynamic blocks and inputs for the tests of the executors."""

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from las_mm.layers import DynamicBasicBlock, DynamicBlock, DynamicBottleneck


def randomize(module: nn.Module, seed: int = 0, masker_bias: float = 0.0) -> nn.Module:
    """Give norms statistics as after training, maskers an opinion; returns it in eval mode."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(std=0.2)
                part.running_var.uniform_(0.5, 2)
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(std=0.2)
            if isinstance(part, DynamicBlock):
                for masker in part.maskers:
                    masker.conv.weight.normal_()
                    masker.conv.bias.copy_(torch.tensor([masker_bias, 0.0]))
    return module.eval()


@st.composite
def blocks(draw: st.DrawFn) -> DynamicBlock:
    """Basic blocks and bottlenecks, with squeeze-and-excitation or without, of every stride,
    dilation, grouping and granularity.
    """
    granularity = draw(st.integers(1, 8))
    stride, dilation = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 1, 2, 3]))
    groups, widths = draw(st.sampled_from([1, 1, 2, 3])), st.integers(1, 7)
    mid, out = groups * draw(widths), draw(st.integers(1, 40))
    in_channels = out if stride == 1 and draw(st.booleans()) else draw(widths)
    if draw(st.booleans()):
        squeeze = draw(st.sampled_from([0, 0, 1, 2, 5, 17]))
        block = DynamicBottleneck(
            in_channels, mid, out, granularity, stride, dilation, groups, squeeze
        )
        if draw(st.booleans()):  # mmdet's style='caffe': the stride in the 1×1 convolution
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    else:
        block = DynamicBasicBlock(in_channels, out, granularity, stride, dilation)
    # All patches off, some on, all on.
    return randomize(block, draw(st.integers(0, 99)), draw(st.sampled_from([-1e6, 0, 0, 0, 1e6])))


@st.composite
def inputs(draw: st.DrawFn, block: DynamicBlock, dtype: torch.dtype = torch.float32) -> Tensor:
    """Batches of any size and memory layout that the block's granularity allows."""
    smallest = (block.masker.granularity - 1) * block.stride_product + 1
    height, width = draw(st.integers(smallest, 19)), draw(st.integers(smallest, 19))
    x = torch.randn(draw(st.integers(1, 3)), block.conv1.in_channels, height, width, dtype=dtype)
    layout = draw(st.sampled_from(['contiguous', 'channels_last', 'strided', 'transposed']))
    if layout == 'channels_last':
        return x.contiguous(memory_format=torch.channels_last)
    if layout == 'strided':
        return x.repeat_interleave(2, -1)[..., ::2]
    return x.transpose(2, 3).contiguous().transpose(2, 3) if layout == 'transposed' else x
