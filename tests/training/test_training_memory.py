"""What a dynamic block keeps for its backward pass is what a static one keeps, and its mask."""

import copy
from contextlib import nullcontext

import pytest
import torch
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from las_mm.models.resnet_mmdet import LASBasicBlock, LASBottleneck

KINDS = {'bottleneck': (Bottleneck, LASBottleneck, 32), 'basic': (BasicBlock, LASBasicBlock, 128)}


def kept_bytes(block: nn.Module, x: Tensor) -> int:
    """Bytes that autograd keeps, parameters apart, of a forward of the block."""
    storages = {}
    weights = {p.untyped_storage().data_ptr() for p in block.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage  # alive, so that no address is given twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x)
    return sum(storage.nbytes() for storage in storages.values())


def pair(kind: str, granularity: int, with_cp: bool = False) -> list[nn.Module]:
    """A static block and the dynamic one of the same weights."""
    torch.manual_seed(0)
    static_type, dynamic_type, width = KINDS[kind]
    static, dynamic = (cls(128, width, with_cp=with_cp) for cls in (static_type, dynamic_type))
    dynamic.load_state_dict(static.state_dict())
    dynamic.make_dynamic(granularity)
    return [static.train(), dynamic.train()]


def extra(blocks: list[nn.Module], autocast: bool = False) -> float:
    """What the second block keeps beyond the first one, in units of its input or output.

    With ``with_cp`` the dynamic block's input is not seen: torch's checkpoint holds it itself.
    """
    x = torch.randn(2, 128, 16, 16, dtype=torch.bfloat16 if autocast else torch.float32)
    x.requires_grad_()
    with torch.autocast('cpu', torch.bfloat16) if autocast else nullcontext():
        first, second = (kept_bytes(block, x) for block in blocks)
    return (second - first) / x.nbytes


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('granularity', [1, 2, 4])
@pytest.mark.parametrize('with_cp', [False, True])
def test_a_block_keeps_its_pooled_input_and_masks(kind, granularity, with_cp):
    pooled = 0 if granularity == 1 else 1 / granularity**2
    assert extra(pair(kind, granularity, with_cp)) + with_cp <= pooled + 0.02


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('granularity', [1, 2, 4])
@pytest.mark.parametrize('with_cp', [False, True])
def test_under_autocast_it_keeps_its_masks(kind, granularity, with_cp):
    assert extra(pair(kind, granularity, with_cp), autocast=True) + with_cp <= 0.04


@pytest.mark.parametrize('kind', KINDS)
def test_statistics_need_not_move(kind):
    """As detectors train, with norm_eval=True."""
    blocks = pair(kind, 4)
    for module in nn.ModuleList(blocks).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert extra(blocks) <= 1 / 16 + 0.02


def test_a_norm_that_is_watched_keeps_its_output():
    """What the function for plain batch norms saves; and the measure can tell."""
    _, plain = pair('bottleneck', 4)
    watched = copy.deepcopy(plain)
    watched.norm3.register_forward_hook(lambda *_: None)
    assert extra([plain, watched]) == pytest.approx(1, abs=0.02)
