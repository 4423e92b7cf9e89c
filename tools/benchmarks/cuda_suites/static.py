"""The static baseline at its fastest: cuDNN's kernels that add bias and identity themselves."""

import torch
from torch import Tensor

from las_mm.executors.folding import FoldedBlock, FoldedConv, fold_block
from las_mm.layers import DynamicBlock
from las_mm.models.backbone import DynamicBackbone


def fuse_static(backbone: DynamicBackbone) -> None:
    """Run the blocks of a static backbone by cuDNN's fused kernels, for good.

    PyTorch adds the bias of a convolution, the identity and the ReLU by kernels of their own.
    """
    for block in backbone.blocks:
        block.forward = FusedBlock(block)


class FusedBlock:
    """A static block without squeeze-and-excitation as one cuDNN call for each convolution."""

    def __init__(self, block: DynamicBlock) -> None:
        self._folded: FoldedBlock = fold_block(block, block.conv1.weight.dtype)
        self._convs = [_arguments(conv) for conv in self._folded.convs]

    def __call__(self, x: Tensor, private: bool = False) -> Tensor:
        out, identity = x, self._folded.identity(x)
        *convs, (weight, *others) = self._convs
        for conv in convs:
            out = torch.cudnn_convolution_relu(out, *conv)
        return torch.cudnn_convolution_add_relu(out, weight, identity, 1.0, *others)


def _arguments(conv: FoldedConv) -> tuple:
    """Weight, bias and geometry as cuDNN's fused functions take them."""
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    pairs = ([number] * 2 for number in (conv.stride, conv.padding, conv.dilation))
    return weight, conv.bias, *pairs, conv.groups
