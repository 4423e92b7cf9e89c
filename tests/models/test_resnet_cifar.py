"""ResNets for CIFAR: known sizes, both shortcuts, exact against static and in every executor."""

import copy

import pytest
import torch
from mmpretrain.registry import MODELS
from networks import always, randomize, undecided

import las_mm  # noqa: F401  (registers the backbones)
from las_mm.inference import optimize_for_inference
from las_mm.layers.padded_shortcut import PaddedShortcut

# Millions of parameters with option A and a classifier of ten classes (He et al., 2016, Table 6).
MILLIONS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}


def build(dynamic: bool, depth: int = 20, **options) -> torch.nn.Module:
    kind = 'LASResNetCIFAR' if dynamic else 'ResNetCIFAR'
    return MODELS.build(dict(type=kind, depth=depth, **options))


@pytest.mark.parametrize('depth', MILLIONS)
def test_the_sizes_are_those_of_the_paper(depth):
    network = build(False, depth, shortcut='A')
    parameters = sum(p.numel() for p in network.parameters()) + 64 * 10 + 10
    assert parameters / 1e6 == pytest.approx(MILLIONS[depth], abs=0.035 if depth > 100 else 0.008)
    assert sum(map(len, (network.layer1, network.layer2, network.layer3))) == (depth - 2) / 2
    assert network(torch.randn(1, 3, 32, 32))[0].shape == (1, 64, 8, 8)


@pytest.mark.parametrize('shortcut', 'AB')
@pytest.mark.parametrize('options', [{}, dict(depth=18, base_channels=8, stem_channels=8)])
def test_with_every_patch_on_it_is_the_static_network_exactly(shortcut, options):
    torch.manual_seed(0)
    static, dynamic = (build(kind, shortcut=shortcut, **options) for kind in (False, True))
    randomize(static)
    missing, unexpected = dynamic.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert len(missing) == 2 * len(dynamic.blocks)
    assert all('.masker.' in name for name in missing)
    always(dynamic, keep=True)
    x = torch.randn(2, 3, 32, 32)
    for training in (True, False):
        static.train(training), dynamic.train(training)
        assert all(map(torch.equal, static(x), dynamic(x)))
    counted = [isinstance(block.downsample, PaddedShortcut) for block in dynamic.blocks]
    assert any(counted) == (shortcut == 'A')


def test_names_are_those_of_mmpretrain():
    options = dict(depth=18, base_channels=8, stem_channels=8)
    theirs = MODELS.build(dict(type='ResNet_CIFAR', **options))
    ours = build(False, **options)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    missing, unexpected = build(True, **options).load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected and all('.masker.' in name for name in missing)


def test_the_shortcut_without_parameters_subsamples_and_pads_both_sides():
    x = torch.arange(2 * 3 * 5 * 4.0).view(2, 3, 5, 4)
    out = PaddedShortcut(8, 2)(x)
    assert out.shape == (2, 8, 3, 2)
    assert torch.equal(out[:, 2:5], x[:, :, ::2, ::2])
    assert out[:, :2].abs().sum() == out[:, 5:].abs().sum() == 0
    assert PaddedShortcut(3, 1)(x).data_ptr() != x.data_ptr()


@torch.no_grad()
@pytest.mark.parametrize('shortcut', 'AB')
@pytest.mark.parametrize('executor', ['torch', 'cpu', 'auto'])
def test_the_optimized_network_is_the_same_network(shortcut, executor, caplog):
    torch.manual_seed(0)
    network = undecided(randomize(build(True, 14, shortcut=shortcut, granularity='4-2-1'))).eval()
    x = torch.randn(2, 3, 33, 30)
    (expected,) = network(x)
    rates = [trace.activation_rate.tolist() for trace in network.traces]
    fast = optimize_for_inference(copy.deepcopy(network), executor)
    for image in (x, x.contiguous(memory_format=torch.channels_last)):
        (out,) = fast(image)
        assert (out - expected).abs().max() <= 1e-4 * expected.abs().max()
        assert [trace.activation_rate.tolist() for trace in fast.traces] == rates
    assert 'instead of' not in caplog.text


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(depth=21), 'depth: got 21; choose one of 8, 14, 20, '),
        (dict(shortcut='C'), "shortcut: got 'C'; choose one of A, B"),
        (dict(granularity='4-4-2-1'), "granularity: got '4-4-2-1'; give 3 integers"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(True, **options)
