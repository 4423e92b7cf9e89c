"""The native stem computes what its layers do, in any layout, size and instruction set."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blocks import randomize
from torch import nn

import las_mm
from las_mm.executors.cpu.stem import pack_stem
from las_mm.inference.folding import FoldingConv
from las_mm.models.mobilenet_mmpretrain import LASMobileNetV2
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops.native.build import load_native

native, reason = load_native()
pytestmark = pytest.mark.skipif(native is None, reason=str(reason))


def make_stem(kernel=7, stride=2, channels=3, out=64, pool=(3, 2, 1), act=nn.ReLU):
    """Convolution, norm, ReLU and, if ``pool``, max pooling, with random statistics."""
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    layers = [conv, nn.BatchNorm2d(out), act(inplace=True)]
    if pool:
        layers.append(nn.MaxPool2d(*pool))
    return randomize(nn.ModuleList(layers)).eval()


def run_layers(layers, x):
    for layer in layers:
        x = layer(x)
    return x


@settings(max_examples=60, deadline=None)
@given(st.data())
@torch.no_grad()
def test_equal_to_its_layers(data):
    def draw(*values):
        return data.draw(st.sampled_from(values))

    torch.manual_seed(data.draw(st.integers(0, 10**6)))
    layers = make_stem(
        kernel=draw(1, 3, 5, 7),
        stride=draw(1, 2, 3),
        channels=draw(1, 3, 4, 16, 20),  # from 16 on as a feature
        act=draw(nn.ReLU, nn.ReLU6),
        out=draw(4, 20, 64, 96),
        pool=draw(None, (3, 2, 1), (2, 2, 0), (5, 3, 2), (2, 3, 1)),
    )
    height, width = data.draw(st.integers(9, 50)), data.draw(st.integers(9, 50))
    x = torch.randn(draw(1, 2, 5), layers[0].in_channels, height, width) * draw(1, 9)
    x = draw(x, x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3), x[:, :, 1:, 2:])
    packed = pack_stem(layers, x.dtype, draw(*native.float32_isas()))
    outs = []
    for threads in (1, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        outs.append(packed.run(x))
        torch.set_num_threads(before)
    expected = run_layers(layers, x)
    assert outs[0].shape == expected.shape
    assert outs[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(*outs)
    assert (outs[0] - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.skipif(
    not (native and native.bfloat16_isas()), reason='this CPU has no bfloat16 instructions'
)
@torch.no_grad()
def test_bfloat16():
    torch.manual_seed(0)
    layers, x = make_stem(), torch.randn(2, 3, 61, 75).bfloat16()
    out = pack_stem(layers, x.dtype).run(x)
    expected = run_layers(layers, x.float())
    assert out.dtype == torch.bfloat16
    assert (out - expected).abs().max() <= 3 * 2**-8 * expected.abs().max()


@torch.no_grad()
def test_numbers_that_are_none_stay_visible():
    layers, x = make_stem(), torch.zeros(1, 3, 40, 40)
    x[0, 1, 20, 20] = torch.nan
    assert torch.equal(pack_stem(layers, x.dtype).run(x).isnan(), run_layers(layers, x).isnan())


@pytest.mark.parametrize(
    'index, layer',
    [
        (0, nn.Conv2d(3, 64, 9, 2, 4)),
        (0, nn.Conv2d(3, 64, 3, 2, 2, dilation=2)),
        (0, nn.Conv2d(3, 64, 3, 2, 0)),
        (0, nn.Conv2d(4, 64, 3, 2, 1, groups=2)),
        (1, nn.GroupNorm(8, 64)),
        (2, nn.LeakyReLU()),
        (3, nn.AvgPool2d(3, 2, 1)),
        (3, nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
        (3, nn.MaxPool2d((3, 2), 2, 1)),
        (3, nn.MaxPool2d(9, 2, 4)),
        (3, nn.MaxPool2d(3, 2, 1, dilation=2)),
    ],
    ids=str,
)
def test_other_layers_are_left_to_pytorch(index, layer):
    layers = make_stem()
    layers[index] = layer.eval()
    assert pack_stem(layers, torch.float32) is None


def test_too_small_an_image_is_one_clear_error():
    stem = pack_stem(make_stem(pool=(7, 2, 0)), torch.float32)
    for edge in (8, 12):
        with pytest.raises(ValueError, match='too small for the pooling'):
            stem.run(torch.zeros(1, 3, edge, edge))
    assert stem.run(torch.zeros(1, 3, 14, 14)).shape[2:] == (1, 1)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return randomize(TorchLASResNet(18, '4-4-2-1')).eval()


@torch.no_grad()
def test_optimized_backbone_runs_it_and_can_be_restored(net):
    names, x = ['conv1', 'bn1', 'relu', 'maxpool'], torch.randn(1, 3, 64, 96)
    before = [getattr(net, name) for name in names]
    state, macs = net.state_dict(), net(x) and net.fixed_macs()
    expected = run_layers(before, x)
    las_mm.optimize_for_inference(net)
    out = run_layers([getattr(net, name) for name in names], x)
    assert isinstance(net.conv1, FoldingConv) and len(net.conv1.fold.layers) == 4
    assert out.stride(1) == 1
    assert (out - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert net.fixed_macs() == macs and list(net.state_dict()) == list(state)
    las_mm.restore_after_inference(net)
    assert all(getattr(net, name) is layer for name, layer in zip(names, before, strict=True))


@torch.no_grad()
def test_changes_are_noticed(net):
    x = torch.randn(1, 3, 64, 64)
    las_mm.optimize_for_inference(net)
    net(x)
    net.conv1.weight.mul_(0.5)
    expected = copy.deepcopy(net)
    assert torch.equal(net(x)[0], las_mm.optimize_for_inference(expected)(x)[0])


def test_gradients_and_training_go_through_the_layers(net):
    las_mm.optimize_for_inference(net)
    x = torch.randn(2, 3, 64, 64)
    net.conv1(x).sum().backward()
    assert net.conv1.weight.grad is not None
    mean = net.bn1.running_mean.clone()
    net.train()
    net(x)
    assert not torch.equal(net.bn1.running_mean, mean)


@pytest.mark.parametrize('executor', ['dense', 'torch'])
def test_only_for_the_native_executor(net, executor):
    assert len(las_mm.optimize_for_inference(net, executor).conv1.fold.layers) == 2


def test_a_backbone_can_refuse_it(net):
    net.stem_names = ()
    assert len(las_mm.optimize_for_inference(net).conv1.fold.layers) == 2


@torch.no_grad()
def test_hooks_on_its_layers_see_what_they_saw_before(net):
    seen = []
    net.relu.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    las_mm.optimize_for_inference(net)(torch.randn(1, 3, 64, 64))
    assert seen == [(1, 64, 32, 32)]


@torch.no_grad()
def test_bfloat16_of_a_feature():
    if not native.bfloat16_isas():
        pytest.skip('this CPU has no bfloat16 instructions')
    layers = make_stem(1, 1, 32, 48, pool=None, act=nn.ReLU6)
    x = torch.randn(2, 32, 7, 9).bfloat16() * 4
    packed, expected = pack_stem(layers, x.dtype), run_layers(layers, x.float())
    assert type(packed).__name__ == 'BFloat16Conv'
    assert (packed.run(x) - expected).abs().max() <= 3 * 2**-8 * expected.abs().max()
    with pytest.raises(ValueError, match='its size must be'):
        packed.run(x[:, :16])


@torch.no_grad()
def test_single_convolutions_of_a_light_network_run_in_one_piece():
    net = randomize(LASMobileNetV2(0.5, '4-4-2-2-1', out_indices=(6, 7))).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = net(x)
    las_mm.optimize_for_inference(net, 'cpu')
    for module in (net.conv1, net.conv2):
        assert type(module.conv).__mro__[1] is FoldingConv
        assert module.conv.fold._run_native(x if module is net.conv1 else expected[0]) is not None
    for out, want in zip(net(x), expected, strict=True):
        assert (out - want).abs().max() <= 1e-5 * want.abs().max()
    seen = net.conv1(x)
    alone = net.conv1(x, activate=False)
    assert torch.equal(alone.clamp(0, 6) > 0, seen > 0) and alone.min() < 0
    hook = net.conv2.activate.register_forward_hook(lambda *_: None)
    assert torch.allclose(net(x)[1], expected[1], atol=1e-4)
    hook.remove()
    las_mm.restore_after_inference(net)
    assert all(torch.equal(a, b) for a, b in zip(net(x), expected, strict=True))
