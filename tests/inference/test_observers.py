"""Whoever looks at an optimized model sees what PyTorch would show: hooks, traces, attributes."""

import copy
import inspect
import pickle
import warnings

import pytest
import torch
from faults import IMAGES, difference, narrow, twin_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import las_mm

NAMES = [
    *('conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2.0', 'layer1.0.conv1', 'layer1.1.bn2'),
    *('layer2.0.conv2', 'layer2.1.masker', 'layer3.0.masker.conv', 'layer3.0.downsample'),
    *('layer4.0.downsample.0', 'layer4.1.conv2', 'layer4.1.bn2', 'layer2.1.relu'),
]


def watch(network, names, before):
    """What hooks on some modules see in a forward."""
    seen, handles = [], []

    def note(name):
        def hook(module, args, out=None):
            tensor = args[0] if out is None else out
            seen.append((name, tensor.clone()))

        return hook

    for name in names:
        module = network.get_submodule(name)
        register = module.register_forward_pre_hook if before else module.register_forward_hook
        handles.append(register(note(name)))
    network(IMAGES)
    for handle in handles:
        handle.remove()
    return seen


@settings(max_examples=40)
@given(
    names=st.sets(st.sampled_from(NAMES), min_size=1, max_size=4),
    before=st.booleans(),
    executor=st.sampled_from(['torch', 'cpu']),
    ran=st.booleans(),
)
@torch.no_grad()
def test_hooks_see_the_same_tensors_as_often(names, before, executor, ran):
    network = las_mm.optimize_for_inference(narrow(18), executor)
    if ran:
        network(IMAGES)
    wanted = watch(twin_of(network), sorted(names), before)
    seen = watch(network, sorted(names), before)
    assert [name for name, _ in seen] == [name for name, _ in wanted]
    for (name, tensor), (_, expected) in zip(seen, wanted, strict=True):
        assert tensor.shape == expected.shape, name
        assert difference([tensor], [expected]) < 1e-5, name
    assert difference(network(IMAGES), twin_of(network)(IMAGES)) < 1e-5


@torch.no_grad()
def test_a_global_hook_sees_every_layer():
    network, calls = las_mm.optimize_for_inference(narrow(18), 'cpu'), []
    wanted = network(IMAGES)
    handle = nn.modules.module.register_module_forward_hook(lambda m, a, o: calls.append(m))
    try:
        outs = network(IMAGES)
    finally:
        handle.remove()
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert {conv for conv in convs if conv not in calls} <= {b.masker.conv for b in network.blocks}
    assert difference(outs, wanted) < 1e-5


@pytest.mark.parametrize('ran', [False, True])
@pytest.mark.parametrize('granularity', ['2-2-1-1', 'all'])
@pytest.mark.parametrize('executor', ['dense', 'torch', 'cpu'])
def test_a_trace_gives_the_model_s_numbers_on_other_images(executor, granularity, ran):
    network = las_mm.optimize_for_inference(narrow(18, granularity), executor)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        if ran:
            network(IMAGES)
        traced = torch.jit.trace(network, IMAGES[:1])
        for images in (IMAGES[:1], IMAGES[1:], IMAGES):
            assert difference(traced(images), network(images)) < 1e-5


def test_an_export_gives_the_model_s_numbers_on_other_images():
    network = las_mm.optimize_for_inference(narrow(18), 'cpu')
    with torch.no_grad():
        exported = torch.export.export(network, (IMAGES[:1],), strict=False).module()
        assert difference(exported(IMAGES[1:]), network(IMAGES[1:])) < 1e-5


def looked_at(network):
    assert hasattr(network, 'traces') and getattr(network, 'nothing', None) is None
    inspect.getmembers(network)
    for block in network.blocks:
        inspect.getmembers(block)
    return copy.deepcopy(network), pickle.loads(pickle.dumps(network))


@pytest.mark.parametrize('optimized', [False, True])
@pytest.mark.parametrize('ran', [False, True])
@torch.no_grad()
def test_looking_copying_and_pickling_are_free(optimized, ran):
    network = narrow(18)
    if optimized:
        las_mm.optimize_for_inference(network, 'cpu')
    if ran:
        network(IMAGES)
    wanted = narrow(18)(IMAGES)
    for twin in (network, *looked_at(network)):
        assert difference(twin(IMAGES), wanted) < 1e-5
        assert list(twin.state_dict()) == list(narrow(18).state_dict())


def test_without_no_grad_it_is_said_once_and_gradients_flow(caplog):
    from las_mm.ops.reasons import log_once

    log_once.cache_clear()
    network = las_mm.optimize_for_inference(narrow(18), 'cpu')
    for _ in range(2):
        sum(out.sum() for out in network(IMAGES)).backward()
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "executor: 'dense' instead of 'cpu' while gradients are wanted, which is slower; call the "
        'model within torch.no_grad() or torch.inference_mode()'
    ]
    assert network.layer1[0].conv1.weight.grad is not None


def test_nothing_that_requires_gradients_runs_sparsely_without_no_grad():
    network = las_mm.optimize_for_inference(narrow(18).requires_grad_(False), 'cpu')
    wanted = twin_of(network)(IMAGES)
    outs = network(IMAGES)
    assert network.layer2._chain is not None
    assert difference(outs, wanted) < 1e-5
    images = IMAGES.clone().requires_grad_(True)
    sum(out.sum() for out in network(images)).backward()
    assert images.grad.abs().sum() > 0
