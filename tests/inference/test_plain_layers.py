"""Layers that compute otherwise than their class suggests are called as they are, always."""

import pytest
import torch
from faults import CHANGES, IMAGES, difference, narrow, parts, twin_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import las_mm


@settings(max_examples=40)
@given(
    change=st.sampled_from(sorted(CHANGES)),
    part=st.sampled_from(sorted(parts(narrow()))),
    when=st.sampled_from(['before', 'after', 'after a forward']),
    executor=st.sampled_from(['torch', 'cpu', 'auto']),
)
@torch.no_grad()
def test_equal_to_pytorch_whatever_a_layer_computes(change, part, when, executor):
    network = narrow(18)
    if part.endswith('conv3'):
        part = 'layer3.1.conv2'
    if when == 'before':
        CHANGES[change](network.get_submodule(part))
    las_mm.optimize_for_inference(network, executor)
    if when == 'after a forward':
        network(IMAGES)
    if when != 'before':
        CHANGES[change](network.get_submodule(part))
    wanted = twin_of(network)(IMAGES) if change != 'own forward' else None
    for _ in range(2):
        outs = network(IMAGES)
        if wanted is None:  # a copy's layer would call the original's forward
            las_mm.restore_after_inference(network)
            wanted = network(IMAGES)
            las_mm.optimize_for_inference(network, executor)
        assert difference(outs, wanted) < 1e-5


@torch.no_grad()
def test_fast_again_when_the_reason_is_gone(caplog):
    network = las_mm.optimize_for_inference(narrow(), 'cpu')
    network(IMAGES)
    handle = network.layer2[1].conv2.register_forward_hook(lambda module, args, out: None)
    network(IMAGES)
    assert network.layer2._chain is None
    handle.remove()
    network(IMAGES)
    assert network.layer2._chain is not None


class Norm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 0.25


class Gelu(nn.ReLU):
    def forward(self, x):
        return nn.functional.gelu(x)


@pytest.mark.parametrize('executor', ['torch', 'cpu'])
@pytest.mark.parametrize(
    'name, kind',
    [
        ('layer1.1.bn2', Norm),
        ('bn1', Norm),
        ('layer2.0.downsample.1', Norm),
        ('layer3.0.relu', Gelu),
        ('relu', Gelu),
    ],
)
@torch.no_grad()
def test_subclasses_of_norms_and_activations(executor, name, kind):
    network = narrow()
    network.get_submodule(name).__class__ = kind
    wanted = network(IMAGES)
    assert difference(las_mm.optimize_for_inference(network, executor)(IMAGES), wanted) < 1e-5


@torch.no_grad()
def test_another_masker_decides_itself():
    from las_mm.layers import PatchMasker

    class Contrary(PatchMasker):
        def margin(self, x):
            return -super().margin(x)

    network = narrow()
    for block in network.blocks[::3]:
        block.masker.__class__ = Contrary
    wanted = network(IMAGES)
    masks = [trace.mask for trace in network.traces]
    assert difference(las_mm.optimize_for_inference(network, 'cpu')(IMAGES), wanted) < 1e-5
    assert all(map(torch.equal, masks, [trace.mask for trace in network.traces]))


@torch.no_grad()
def test_a_block_with_a_forward_of_its_own_is_called():
    from las_mm.models.resnet_torch import LASBottleneck

    class Scaled(LASBottleneck):
        def identity(self, x):
            return 0.5 * super().identity(x)

    network = narrow()
    for block in network.layer2:
        block.__class__ = Scaled
    wanted = network(IMAGES)
    assert difference(las_mm.optimize_for_inference(network, 'cpu')(IMAGES), wanted) < 1e-5


class Late(nn.Module):
    """A user's module whose norm does not follow its convolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.bn(x.relu()) + x


class Halved(nn.Sequential):
    def forward(self, x):
        for layer in self:
            x = layer(x) * 0.5
        return x


@torch.no_grad()
@pytest.mark.parametrize('kind', [Late, lambda: Halved(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))])
def test_norms_are_folded_only_where_it_is_known_what_follows_what(kind):
    module = kind().eval()
    nn.init.uniform_(module.bn.running_mean if hasattr(module, 'bn') else module[1].running_mean)
    wanted = module(IMAGES)
    torch.testing.assert_close(las_mm.optimize_for_inference(module)(IMAGES), wanted)


@torch.no_grad()
def test_a_convolution_module_may_leave_its_norm_out():
    cnn = pytest.importorskip('mmcv.cnn', reason='mmcv is missing')
    module = cnn.ConvModule(3, 8, 3, padding=1, norm_cfg=dict(type='BN')).eval()
    nn.init.uniform_(module.bn.running_mean)
    nn.init.uniform_(module.bn.weight)
    calls = [{}, dict(norm=False), dict(activate=False), dict(activate=False, norm=False)]
    wanted = [module(IMAGES, **call) for call in calls]
    las_mm.optimize_for_inference(module)
    for call, expected in zip(calls, wanted, strict=True):
        torch.testing.assert_close(module(IMAGES, **call), expected)


class Encoder(type(narrow())):
    """A user's subclass that also returns what comes before pooling."""

    def _forward_impl(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        outs = [x]
        x = self.maxpool(x)
        for name in self.dynamic_stages:
            x = getattr(self, name)(x)
            outs.append(x)
        return tuple(outs)


@torch.no_grad()
@pytest.mark.parametrize('executor', ['torch', 'cpu'])
def test_features_between_the_stem_s_layers_are_what_they_were(executor):
    network = narrow()
    network.__class__ = Encoder
    wanted = network(IMAGES)
    outs = las_mm.optimize_for_inference(network, executor)(IMAGES)
    assert [out.shape for out in outs] == [out.shape for out in wanted]
    assert difference(outs, wanted) < 1e-5
    assert all(out.is_contiguous() for out in outs)


@torch.no_grad()
@pytest.mark.parametrize('pool', [nn.Identity(), nn.AvgPool2d(2), nn.MaxPool2d(3, 2)])
def test_stems_that_a_user_changed(pool):
    network = narrow()
    network.conv1, network.maxpool = nn.Conv2d(3, 8, 3, 1, 1, bias=False), pool
    wanted = network(IMAGES)
    assert difference(las_mm.optimize_for_inference(network, 'cpu')(IMAGES), wanted) < 1e-5
