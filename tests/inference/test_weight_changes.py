"""Optimized models answer for the weights that they have, however these were written."""

import copy

import pytest
import torch
from faults import IMAGES, difference, narrow, twin_of
from hypothesis import given, settings
from hypothesis import strategies as st

import las_mm


def swap_data(network, other):
    for mine, its in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        kept = mine.data.clone()
        mine.data.copy_(its.data)
        its.data.copy_(kept)


def pairs(network, other):
    return zip(network.parameters(), other.parameters(), strict=True)


def by_numpy(network, other):
    for mine, its in pairs(network, other):
        mine.data.numpy()[...] = its.data.numpy()


def step(network, kind, **options):
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    kind(network.parameters(), **options).step()
    network.zero_grad()


def set_new(network, other):
    for mine, its in pairs(network, other):
        mine.data = its.data.clone()


def replace_parameters(network, other):
    for module, its in zip(network.modules(), other.modules(), strict=True):
        for name in list(module._parameters):
            if module._parameters[name] is not None:
                setattr(module, name, torch.nn.Parameter(its._parameters[name].detach().clone()))


def foreach(network, other):
    torch._foreach_copy_(list(network.parameters()), list(other.parameters()))


def through_storage(network, other):
    for mine, its in pairs(network, other):
        mine.data.untyped_storage().copy_(its.data.untyped_storage())


WAYS = {
    'copy_': lambda n, o: [p.copy_(q) for p, q in pairs(n, o)],
    'data.copy_': swap_data,
    'data=': set_new,
    'data.mul_': lambda n, o: [p.data.mul_(0.9) for p in n.parameters()],
    'set_': lambda n, o: [p.set_(q.clone()) for p, q in pairs(n, o)],
    'NumPy': by_numpy,
    'storage': through_storage,
    '_foreach_copy_': foreach,
    'SGD': lambda n, o: step(n, torch.optim.SGD, lr=0.1, momentum=0.9),
    'SGD, foreach': lambda n, o: step(n, torch.optim.SGD, lr=0.1, foreach=True),
    'Adam, fused': lambda n, o: step(n, torch.optim.Adam, lr=0.1, fused=True),
    'load_state_dict': lambda n, o: n.load_state_dict(o.state_dict()),
    'load_state_dict, assign': lambda n, o: n.load_state_dict(o.state_dict(), assign=True),
    'new parameters': replace_parameters,
    'statistics': lambda n, o: [b.data.add_(0.1) for b in n.buffers() if b.is_floating_point()],
    'bfloat16 and back': lambda n, o: n.bfloat16().float(),
}  # fmt: skip


@settings(max_examples=len(WAYS) * 2)
@given(
    way=st.sampled_from(sorted(WAYS)),
    executor=st.sampled_from(['torch', 'cpu']),
    inference=st.booleans(),
)
def test_every_way_to_change_weights_is_noticed(way, executor, inference):
    network = las_mm.optimize_for_inference(narrow(18), executor)
    mode = torch.inference_mode if inference else torch.no_grad
    with mode():
        before = network(IMAGES)
    with torch.no_grad():
        WAYS[way](network, narrow(18, seed=1))
    with mode():
        outs, wanted = network(IMAGES), twin_of(network)(IMAGES)
    assert difference(outs, wanted) < 1e-5
    assert difference(outs, before) > 1e-4, 'the change is no change'


def settings_of(network):
    return {
        'eps': lambda: setattr(network.layer1[0].bn1, 'eps', 0.5),
        'stride': lambda: setattr(network.conv1, 'stride', (1, 1)),
        'dilation': lambda: (
            setattr(network.layer3[1].conv2, 'dilation', (2, 2)),
            setattr(network.layer3[1].conv2, 'padding', (2, 2)),
        ),
        'granularity': lambda: (network.layer1[1].make_dynamic(1), network.eval()),
        'masker': lambda: network.layer2[1].masker.conv.bias.data.fill_(3.0),
        'layer': lambda: setattr(network.layer2[0], 'conv1', torch.nn.Conv2d(32, 16, 1)),
        'block': lambda: network.layer2.__setitem__(1, copy.deepcopy(network.layer2[1])),
        'pooling': lambda: setattr(network.maxpool, 'padding', 0),
    }


@pytest.mark.parametrize('name', settings_of(None))
@torch.no_grad()
def test_settings_of_layers_may_change_too(name):
    network = las_mm.optimize_for_inference(narrow(), 'cpu')
    network(IMAGES)
    settings_of(network)[name]()
    assert difference(network(IMAGES), twin_of(network)(IMAGES)) < 1e-5


def test_a_training_step_in_between_is_noticed_whatever_it_writes():
    network = las_mm.optimize_for_inference(narrow(18), 'cpu')
    with torch.no_grad():
        network(IMAGES)
        network.train()
        network(IMAGES)  # moves the running statistics
        network.layer1[0].conv1.weight.data.view(-1)[3] += 1  # one element, which no sample sees
        network.eval()
        assert difference(network(IMAGES), twin_of(network)(IMAGES)) < 1e-5
