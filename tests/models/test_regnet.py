"""LAS-RegNet: exact against static, squeeze-and-excitation over active pixels, known sizes."""

import copy

import pytest
import torch
import torchvision
from mmdet.registry import MODELS as MMDET
from mmpretrain.registry import MODELS as MMPRETRAIN
from networks import always, decide, randomize, undecided
from torch._subclasses import FakeTensorMode

from las_mm.inference import make_static, optimize_for_inference
from las_mm.latency.description import describe_backbone
from las_mm.models.regnet import ARCHITECTURES
from las_mm.ops import upsample_mask
from latency_predictor import network_macs, regnet

FRAMEWORKS = {'mmdet': MMDET, 'mmpretrain': MMPRETRAIN}
Y = dict(w0=8, wa=8.0, wm=2.0, group_w=4, depth=9, bot_mul=1.0, se_ratio=0.25)
X = dict(Y, se_ratio=0.0)
OPTIONS = {
    'Y': dict(arch=Y),
    'X': dict(arch=X),
    'wide inside': dict(arch=dict(Y, bot_mul=2.0)),
    'frozen': dict(arch=Y, frozen_stages=2),
    'norms rest': dict(arch=Y, norm_eval=True),
    'recomputed': dict(arch=Y, with_cp=True),
    'caffe': dict(arch=Y, style='caffe'),
}


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


def build(framework: str, kind: str = 'LASRegNet', **options) -> torch.nn.Module:
    """A narrow RegNet of the framework, static or dynamic."""
    options = {'arch': Y, 'stem_channels': 8, 'out_indices': (0, 1, 2, 3), **options}
    if kind == 'LASRegNet':
        options.setdefault('granularity', '4-2-2-1')
    return FRAMEWORKS[framework].build(dict(type=kind, **options))


@pytest.fixture
def block():
    """A RegNetY block without stride in double precision, S = 2, with trained norms."""
    torch.manual_seed(0)
    network = randomize(build('mmpretrain', granularity='2-2-2-1')).double()
    network.eval()
    return network.layer3[1]


def random_input(block, size=(6, 7), images=2):
    return torch.randn(images, block.conv1.in_channels, *size, dtype=torch.float64)


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS.keys())
def test_with_every_patch_on_it_is_the_static_network_exactly(framework, options):
    torch.manual_seed(0)
    static, dynamic = build(framework, 'SERegNet', **options), build(framework, **options)
    randomize(static)
    missing, unexpected = dynamic.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert all('.masker.' in name for name in missing)
    assert len(missing) == 2 * len(dynamic.blocks)
    always(dynamic, keep=True)
    x = torch.randn(2, 3, 65, 47)
    for training in (True, False):
        static.train(training), dynamic.train(training)
        assert all(torch.equal(*outs) for outs in zip(static(x), dynamic(x), strict=True))
    for name, parameter in static.named_parameters():
        assert dynamic.get_parameter(name).requires_grad == parameter.requires_grad, name


def test_static_regnetx_is_the_framework_s_own(framework):
    ours, theirs = build(framework, 'SERegNet', arch=X), build(framework, 'RegNet', arch=X)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 64, 64)
    ours.eval(), theirs.eval()
    assert all(torch.equal(*outs) for outs in zip(ours(x), theirs(x), strict=True))


def test_what_is_skipped_is_never_read(block):
    """Any values in the skipped pixels of the 3×3 convolution's output give the same result."""
    x, mask = random_input(block), torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]])
    mask = torch.stack([mask, 1 - mask])[:, None].double()
    decide(block, mask)
    wanted = block(x)
    skipped = upsample_mask(mask, 2, (6, 7)) == 0

    def spoil(module, args, out):
        return torch.where(skipped, 100 * torch.randn_like(out), out)

    block.norm2.register_forward_hook(spoil)
    assert torch.equal(block(x), wanted)
    decide(block, torch.ones(2, 1, 3, 4))
    assert not torch.equal(block(x), wanted)


def test_the_gate_is_the_static_one_of_the_active_pixels(block):
    """Gathering the active pixels and running the static layer on them alone."""
    x, mask = random_input(block, images=1), torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 0], [0] * 4])
    out = decide(block, mask[None, None].double())(x)
    active = block.trace.pixel_mask[0, 0].bool()
    features = block.relu(block.norm2(block.conv2(block.relu(block.norm1(block.conv1(x))))))
    gathered = features[:, :, active][..., None]
    rows = block.norm3(block.conv3(block.se(gathered)))[..., 0]
    wanted = x.clone()
    wanted[:, :, active] += rows
    torch.testing.assert_close(out, wanted.relu(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('training', [True, False])
def test_no_active_patch_leaves_the_shortcut(block, training):
    always(block, keep=False).train(training)
    x = random_input(block).requires_grad_()
    out = block(x)
    assert torch.equal(out, x.relu())
    out.sum().backward()
    gradients = [p.grad for p in block.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_recomputing_changes_no_gradient(framework):
    torch.manual_seed(0)
    plain, frugal = build(framework, norm_eval=False), build(framework, with_cp=True)
    frugal.norm_eval = False
    frugal.load_state_dict(undecided(plain).state_dict())
    x = torch.randn(2, 3, 33, 33)
    for network in (plain, frugal):
        network.train()
        torch.manual_seed(1)
        sum(out.square().mean() for out in network(x)).backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


@pytest.mark.parametrize('executor', ['torch', 'cpu'])
@pytest.mark.parametrize('arch', [X, Y], ids=['X', 'Y'])
def test_sparse_inference_is_the_dense_one(framework, arch, executor):
    torch.manual_seed(0)
    network = undecided(randomize(build(framework, arch=arch)))
    network.eval()
    x = torch.randn(3, 3, 65, 94)
    with torch.no_grad():
        dense = network(x)
        masks = [trace.mask for trace in network.traces]
        for model in (network, optimize_for_inference(copy.deepcopy(network), executor)):
            model.executor = executor
            assert all(b.executor.why_not(b, features(b)) is None for b in model.blocks)
            assert_close(model(x), dense)
            assert all(torch.equal(t.mask, m) for t, m in zip(model.traces, masks, strict=True))


@torch.no_grad()
def test_optimized_static_network_is_the_static_one(framework):
    static = make_static(randomize(build(framework))).eval()
    x = torch.randn(2, 3, 65, 94)
    wanted = static(x)
    for executor in ('torch', 'auto'):
        assert_close(optimize_for_inference(static, executor)(x), wanted)


def features(block):
    return torch.zeros(1, block.conv1.in_channels, 8, 8)


def assert_close(outs, wanted):
    for out, reference in zip(outs, wanted, strict=True):
        assert (out - reference).abs().max() <= 1e-5 * reference.abs().max()


# torchvision's RegNetX-400MF rounds its last width to 400, the paper's and OpenMMLab's is 384.
@pytest.mark.parametrize('name', [*ARCHITECTURES, 'regnetx_3.2gf'])
def test_parameters_and_macs_are_torchvision_s(name):
    with FakeTensorMode(), torch.no_grad():
        network = build('mmpretrain', arch=name, stem_channels=32, granularity='1-1-1-1')
        network.eval()
        network(torch.zeros(1, 3, 224, 224))
    theirs = name.replace('.0', '').replace('.', '_').replace('regnet', 'regnet_')
    weights = list(torchvision.models.get_model_weights(theirs))
    classifier = 1000 * network.feat_dim
    ours = sum(p.numel() for n, p in network.named_parameters() if '.masker.' not in n)
    assert ours + classifier + 1000 == weights[0].meta['num_params']
    published = [w.meta['_ops'] for w in weights if w.transforms().crop_size == [224]]
    assert network.cost(classifier).static / 1e9 == pytest.approx(published[0], abs=6e-4)


@pytest.mark.parametrize('name', ['400mf', '800mf'])
def test_the_predictor_sees_the_same_network(name):
    with FakeTensorMode(), torch.no_grad():
        network = build('mmdet', arch=f'regnety_{name}', stem_channels=32, granularity='4-4-7-1')
        network.eval()
        network(torch.zeros(1, 3, 224, 224))
    described = describe_backbone(network, (224, 224))
    built = regnet(name, 224, '4-4-7-1')
    assert described.stem == built.stem
    for ours, theirs in zip(described.blocks, built.blocks, strict=True):
        renamed = dict(vars(theirs), name=theirs.name.replace('block', 'layer'))
        assert vars(ours) == renamed
    assert network_macs(described, 1.0).static == network.cost().static


def test_maskers_start_nearly_always_on(framework):
    network = build(framework)
    network.init_weights()
    assert all(block.masker.conv.bias.tolist() == [10, 1] for block in network.blocks)
    network = build(framework, masker=dict(keep_bias=5.0))
    assert all(block.masker.conv.bias.tolist() == [5, 1] for block in network.blocks)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(arch='regnety_401mf'), "arch: got 'regnety_401mf'; choose one of regnetx_1.6gf"),
        (dict(arch=dict(w0=8)), 'arch: wa is missing; give w0, wa, wm'),
        (dict(granularity='4-4'), "granularity: got '4-4'; give 4 integers"),
        (dict(executor='fast'), "executor: got 'fast'"),
        (dict(dcn=dict(type='DCN')), 'dcn: got .* plain convolutions only'),
    ],
)
def test_refuses_what_it_cannot_do(framework, options, message):
    with pytest.raises(ValueError, match=message):
        build(framework, **options)
