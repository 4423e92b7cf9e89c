"""Small networks and decisions that the tests share."""

import torch
from torch import Tensor, nn

from las_mm.layers import DynamicBasicBlock, DynamicBlock, DynamicBottleneck


def bottleneck(granularity: int = 2, stride: int = 1, dilation: int = 1, **kwargs) -> DynamicBlock:
    """A narrow bottleneck in float64 and eval mode, with batch norms that are not the identity."""
    block = DynamicBottleneck(4, 3, 6, granularity, stride, dilation, **kwargs)
    return randomize(block).double().eval()


def basic_block(granularity: int = 2, stride: int = 1, dilation: int = 1) -> DynamicBlock:
    """A narrow basic block, as :func:`bottleneck`."""
    return randomize(DynamicBasicBlock(4, 6, granularity, stride, dilation)).double().eval()


def randomize(network: nn.Module) -> nn.Module:
    """Give batch norms statistics and weights as after training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return network


def always(network: nn.Module, keep: bool) -> nn.Module:
    """Make every masker keep, or skip, whatever it sees."""
    for block in network.modules():
        if isinstance(block, DynamicBlock) and block.is_dynamic:
            nn.init.zeros_(block.masker.conv.weight)
            block.masker.conv.bias.data = torch.tensor([9.0, -9.0] if keep else [-9.0, 9.0]).to(
                block.masker.conv.bias
            )
    return network


def undecided(network: nn.Module) -> nn.Module:
    """Let every masker depend on its input: no bias."""
    for block in network.modules():
        if isinstance(block, DynamicBlock) and block.is_dynamic:
            nn.init.normal_(block.masker.conv.weight)
            nn.init.zeros_(block.masker.conv.bias)
    return network


def decide(block: DynamicBlock, mask: Tensor) -> DynamicBlock:
    """Make the masker answer ``mask`` (N, 1, h, w) in inference."""
    block.masker.decided = mask
    return block
