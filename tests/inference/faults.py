"""Networks, and what users do to their layers, for the tests of optimized models."""

import copy
from functools import cache

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from las_mm.layers import DynamicBlock
from las_mm.models.resnet_torch import TorchLASResNet

IMAGES = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def narrow(depth: int = 50, granularity: str = '2-2-1-1', seed: int = 0) -> TorchLASResNet:
    """A LAS-ResNet of an eighth of the width, as after training."""
    return copy.deepcopy(_narrow(depth, granularity, seed))


@cache
def _narrow(depth: int, granularity: str, seed: int) -> TorchLASResNet:
    torch.manual_seed(seed)
    network = TorchLASResNet(depth, granularity)
    for name, module in list(network.named_modules()):
        parent = network.get_submodule(name.rpartition('.')[0])
        leaf = name.rpartition('.')[2]
        if isinstance(module, nn.Conv2d) and 'masker' not in name:
            inputs = module.in_channels if module.in_channels == 3 else module.in_channels // 8
            kernel, stride, padding = module.kernel_size, module.stride, module.padding
            new = nn.Conv2d(inputs, module.out_channels // 8, kernel, stride, padding, bias=False)
            setattr(parent, leaf, new)
        elif isinstance(module, nn.BatchNorm2d):
            norm = nn.BatchNorm2d(module.num_features // 8)
            for tensor, low, high in (
                (norm.running_mean, -0.2, 0.2),
                (norm.running_var, 0.5, 2),
                (norm.weight, 0.5, 1.5),
                (norm.bias, -0.2, 0.2),
            ):
                nn.init.uniform_(tensor, low, high)
            setattr(parent, leaf, norm)
    for block in network.blocks:
        for masker in block.maskers:
            masker.conv = nn.Conv2d(block.conv1.in_channels, 2, 1)
            nn.init.normal_(masker.conv.weight)
            nn.init.zeros_(masker.conv.bias)
    return network.eval()


def difference(outs, wanted) -> float:
    """Largest difference of features, relative to the largest value."""
    pairs = zip(outs, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-6)) for a, b in pairs)


def parts(network: nn.Module) -> dict[str, nn.Module]:
    """A convolution of each kind, by name."""
    names = ['conv1', 'layer1.0.conv1', 'layer1.1.conv2', 'layer2.0.downsample.0', 'layer3.1.conv3']
    return {name: network.get_submodule(name) for name in names}


class Doubled(nn.Conv2d):
    """A convolution that computes something else from its weight."""

    def forward(self, x):
        return 2 * super().forward(x)


class Shifted(nn.Conv2d):
    """Weight standardisation, in short."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


def with_own_forward(layer: nn.Module) -> None:
    forward = layer.forward
    layer.forward = lambda x: forward(x) - 0.1


def parametrized(layer: nn.Module) -> None:
    nn.utils.parametrize.register_parametrization(layer, 'weight', nn.Tanh())


def hooked(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda module, args, out: out * 0.5)


# What makes a layer compute something else than its class and its weight say.
CHANGES = {
    'spectral norm': spectral_norm,
    'new spectral norm': lambda conv: parametrizations.spectral_norm(conv),
    'weight norm': weight_norm,
    'new weight norm': lambda conv: parametrizations.weight_norm(conv),
    'pruned': lambda conv: prune.l1_unstructured(conv, 'weight', 0.3),
    'parametrized': parametrized,
    'subclass': lambda conv: setattr(conv, '__class__', Doubled),
    'subclass below': lambda conv: setattr(conv, '__class__', Shifted),
    'own forward': with_own_forward,
    'hook': hooked,
}


def twin_of(network: nn.Module) -> nn.Module:
    """A copy that runs as PyTorch would."""
    from las_mm import restore_after_inference

    twin = restore_after_inference(copy.deepcopy(network))
    for block in [part for part in twin.modules() if isinstance(part, DynamicBlock)]:
        block.executor = None
    return twin
