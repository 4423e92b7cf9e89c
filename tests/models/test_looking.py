"""Looking at a network that has not run, or has failed to, is free: as Python's protocols ask."""

import copy
import inspect
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from las_mm.models.densenet_mmpretrain import LASDenseNet
from las_mm.models.regnet_mmdet import LASRegNet
from las_mm.models.regnet_mmpretrain import LASRegNet as LASRegNetClassifier
from las_mm.models.resnet_mmdet import LASResNet
from las_mm.models.resnet_mmpretrain import LASResNet as LASResNetClassifier
from las_mm.models.resnet_torch import TorchLASResNet

NARROW = dict(base_channels=4, stem_channels=4, granularity='1-1-1-all')
DENSENET = dict(growth_rate=4, depths=[1, 1, 1, 1], init_channels=8)
NETWORKS = {
    'mmdet, basic block': lambda: LASResNet(18, **NARROW),
    'mmdet, bottleneck': lambda: LASResNet(50, **NARROW),
    'mmpretrain': lambda: LASResNetClassifier(18, **NARROW),
    'torch': lambda: TorchLASResNet(18, granularity='2-2-1-1'),
    'RegNet': lambda: LASRegNet('regnety_400mf', '1-1-1-1'),
    'RegNet of mmpretrain': lambda: LASRegNetClassifier('regnetx_400mf', '1-1-1-1'),
    'DenseNet': lambda: LASDenseNet(DENSENET, granularity='1-1-1-1'),
}
IMAGES = torch.zeros(1, 3, 64, 64)


def properties(module: nn.Module) -> Iterator[str]:
    """The names of all properties that a module has, its bases' among them."""
    for kind in type(module).__mro__:
        yield from (name for name, value in vars(kind).items() if isinstance(value, property))


def unrun(name: str) -> nn.Module:
    return NETWORKS[name]()


def failed(name: str) -> nn.Module:
    """A network whose forward ended in its last stage."""
    network = NETWORKS[name]()
    handle = network.blocks[-1].register_forward_pre_hook(lambda block, args: 1 / 0)
    with pytest.raises(ZeroDivisionError), torch.no_grad():
        network.eval()(IMAGES)
    handle.remove()
    return network


@pytest.mark.parametrize('make', [unrun, failed])
@pytest.mark.parametrize('name', NETWORKS)
def test_every_property_is_there_or_raises_attribute_error(name, make):
    network, looked = make(name), 0
    for module in network.modules():
        for key in {*properties(module), 'input_size', 'traces', 'nothing_of_the_kind'}:
            value = getattr(module, key, None)
            assert hasattr(module, key) or value is None
            looked += 1
        assert dict(inspect.getmembers(module)) and dir(module) and repr(module)
    assert looked > 100
    assert network.traces == [] and not hasattr(network, 'nothing_of_the_kind')


@pytest.mark.parametrize('name', NETWORKS)
def test_copies_and_pickles_are_made_before_the_first_forward(name):
    network = unrun(name).eval()
    twins = [copy.copy(network), copy.deepcopy(network), pickle.loads(pickle.dumps(network))]
    assert [twin.traces for twin in twins] == [[], [], []]
    with torch.no_grad():
        wanted = network(IMAGES)
        for twin in twins:
            torch.testing.assert_close(twin(IMAGES), wanted)


@pytest.mark.parametrize('name', ['mmdet, basic block', 'DenseNet'])
def test_recordings_are_made_before_the_first_forward(name):
    network = unrun(name).eval()
    with torch.no_grad():
        traced = torch.jit.trace(copy.deepcopy(network), IMAGES)
        exported = torch.export.export(copy.deepcopy(network), (IMAGES,), strict=False).module()
        wanted = network(IMAGES)
        for twin in (traced, exported):
            for one, other in zip(twin(IMAGES), wanted, strict=True):
                torch.testing.assert_close(one, other)
