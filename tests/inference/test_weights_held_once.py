"""With ``keep_weights=False`` there are packed weights alone; who needs others is told so."""

import copy
import pickle

import pytest
import torch
from random_blocks import randomize

import las_mm
from las_mm.executors.cpu.packing import why_no_kernels
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops.reasons import log_once

pytestmark = pytest.mark.skipif(
    why_no_kernels(torch.float32) is not None, reason='there is no C++ extension'
)
GONE = r'weights: the model has no original ones to .*keep_weights=False; build it anew'


def build():
    torch.manual_seed(0)
    return randomize(TorchLASResNet(50, '4-4-2-1')).eval()


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def light():
    return las_mm.optimize_for_inference(build(), keep_weights=False)


def build_cost(images):
    model = build()
    with torch.no_grad():
        model(images)
    return model.cost().static


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_same_outputs_of_a_fraction_of_the_parameters(light, images):
    with torch.no_grad():
        expected = las_mm.optimize_for_inference(build())(images)
    outs = light(images)  # nothing wants gradients any more
    assert all(map(torch.equal, outs, expected))
    assert all(map(torch.equal, light(images.flip(0)), [out.flip(0) for out in expected]))
    assert count(light) - count(light.fc) < 0.01 * count(build())
    assert light.cost().static == build_cost(images)


def test_blocks_that_skip_channels(images):
    torch.manual_seed(0)
    model = TorchLASResNet(50, '4-4-2-1', channel_groups='2-2-2-2').eval()
    light = las_mm.optimize_for_inference(copy.deepcopy(model), keep_weights=False)
    with torch.no_grad():
        expected = las_mm.optimize_for_inference(model)(images)
    assert all(map(torch.equal, light(images), expected))
    assert count(light) < count(model) / 4


def test_what_needs_the_weights_is_refused(light, images):
    before = light(images)
    attempts = [
        lambda: las_mm.restore_after_inference(light),
        lambda: las_mm.optimize_for_inference(light),
        light.state_dict,
        light.layer2.state_dict,
        lambda: light.load_state_dict(build().state_dict()),
        lambda: copy.deepcopy(light),
        lambda: pickle.dumps(light),
        light.double,
        lambda: light.to('meta'),
        lambda: light(images.double()),
        lambda: light(images.requires_grad_()),
        lambda: light.train()(images.detach()),
    ]
    for attempt in attempts:
        with pytest.raises(RuntimeError, match=GONE) as failure:
            attempt()
        assert '\n' not in str(failure.value)
    light.eval().to('cpu').float()
    assert all(map(torch.equal, light(images.detach()), before))
    with pytest.raises(AttributeError, match=GONE):
        _ = light.layer1[0].conv1.weight


def test_a_hook_inside_of_a_block_is_refused_as_long_as_it_is_there(light, images):
    before = light(images)
    hook = light.layer1[1].conv2.register_forward_hook(print)
    with pytest.raises(RuntimeError, match=GONE):
        light(images)
    hook.remove()
    outs = light(images)
    assert all(map(torch.equal, outs, before))


def test_blocks_that_cannot_be_packed_keep_their_weights(images, caplog):
    log_once.cache_clear()
    model = las_mm.optimize_for_inference(build().double(), keep_weights=False)
    assert 'some blocks keep their weights: this CPU has no instructions for' in caplog.text
    assert count(model) == count(build()) and model.conv1.weight.requires_grad
    assert las_mm.restore_after_inference(model)(images.double())[0].dtype == torch.float64


def test_whom_it_is_not_for():
    with pytest.raises(ValueError, match="keep_weights: got False with 'dense'; choose executor"):
        las_mm.optimize_for_inference(build(), 'dense', keep_weights=False)
    with pytest.raises(ValueError, match='keep_weights: got False for a model without a LAS'):
        las_mm.optimize_for_inference(torch.nn.Conv2d(1, 1, 1), keep_weights=False)
