"""Whole networks of timm, torchvision and LASNet, converted by the tool, compute the same."""

import re
from importlib.util import find_spec

import pytest
import torch
import torchvision
from networks import always, randomize, undecided
from test_conversion import classifier

TIMM_Y_008 = dict(depth=14, w0=56, wa=38.84, wm=2.4, group_w=16, bot_mul=1.0, se_ratio=0.25)


def ours(kind: str, arch: int | str | dict, channels: int) -> torch.nn.Module:
    key = 'depth' if kind == 'LASResNet' else 'arch'
    model = classifier(
        type=kind, granularity='4-4-2-1', out_indices=(3,), channels=channels, **{key: arch}
    )
    return model.double().eval()


# Network of the other project, our family, its architecture, channels of its features.
TIMM = [
    ('resnet18', 'LASResNet', 18, 512),
    ('resnet50', 'LASResNet', 50, 2048),
    ('regnety_004', 'LASRegNet', 'regnety_400mf', 440),
    ('regnety_008', 'LASRegNet', TIMM_Y_008, 768),  # torchvision rounds its widths otherwise
    ('densenet121', 'LASDenseNet', '121', 1024),
]
TORCHVISION = [
    ('resnet34', 'LASResNet', 34, 512),
    ('resnet50', 'LASResNet', 50, 2048),
    ('regnet_x_800mf', 'LASRegNet', 'regnetx_800mf', 672),
    ('regnet_y_800mf', 'LASRegNet', 'regnety_800mf', 784),
    ('densenet121', 'LASDenseNet', '121', 1024),
]


def check(theirs: torch.nn.Module, model: torch.nn.Module, convert) -> None:
    """With every patch on, our network on their weights gives their scores."""
    randomize(theirs).double().eval()
    missing, unexpected = model.load_state_dict(convert(theirs.state_dict()), strict=False)
    assert not unexpected
    assert missing
    assert all('.masker.' in name for name in missing)
    always(model, keep=True)
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        wanted, scores = theirs(x), model(x)
    assert wanted.std() > 0
    assert (scores - wanted).abs().max() <= 1e-10 * wanted.abs().max()


@pytest.fixture
def convert(load_tool, tmp_path):
    """A function that converts weights by the tool: what it wrote, loaded."""

    def convert(weights: dict, **more) -> dict:
        source, out = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
        torch.save({'state_dict': weights, **more}, source)
        load_tool('convert_checkpoint').main([str(source), str(out)])
        return torch.load(out, weights_only=True)['state_dict']

    return convert


@pytest.mark.skipif(not find_spec('timm'), reason='timm is not installed: pip install timm')
@pytest.mark.parametrize(('name', 'kind', 'arch', 'channels'), TIMM)
def test_timm(convert, name, kind, arch, channels):
    import timm

    torch.manual_seed(0)
    check(timm.create_model(name, num_classes=10), ours(kind, arch, channels), convert)


@pytest.mark.parametrize(('name', 'kind', 'arch', 'channels'), TORCHVISION)
def test_torchvision(convert, name, kind, arch, channels):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=10)
    check(theirs, ours(kind, arch, channels), convert)


# LASNet's names, written down from its releases: what each of ours is called there.
LASNET = {
    'LASResNet': [
        (r'^backbone\.', ''),
        (r'^head\.fc\.', 'fc.'),
        (r'\.masker\.conv\.', '.masker.conv2.'),
    ],
    'LASRegNet': [
        (r'^backbone\.conv1\.', 'stem.0.'),
        (r'^backbone\.bn1\.', 'stem.1.'),
        (r'^head\.fc\.', 'fc.'),
        (r'^backbone\.layer(\d)\.(\d+)\.', r'trunk_output.block\1.block\1-\2.'),
        (r'\.masker\.conv\.', '.masker.conv2.'),
        (r'(?<=\d)\.conv1\.', '.f.a.0.'),
        (r'(?<=\d)\.bn1\.', '.f.a.1.'),
        (r'(?<=\d)\.conv2\.', '.f.b.0.'),
        (r'(?<=\d)\.bn2\.', '.f.b.1.'),
        (r'(?<=\d)\.conv3\.', '.f.c.0.'),
        (r'(?<=\d)\.bn3\.', '.f.c.1.'),
        (r'\.se\.', '.f.se.'),
        (r'\.downsample\.', '.proj.'),
    ],
}


@pytest.mark.parametrize(
    ('kind', 'arch', 'channels'), [('LASResNet', 50, 2048), ('LASRegNet', 'regnety_400mf', 440)]
)
def test_lasnet_s_releases_give_the_same_scores_and_masks(convert, kind, arch, channels):
    torch.manual_seed(0)
    release = undecided(randomize(ours(kind, arch, channels))).double()
    weights = {}
    for name, weight in release.state_dict().items():
        for pattern, replacement in LASNET[kind]:
            name = re.sub(pattern, replacement, name)
        weights[f'module.{name}'] = weight
    assert not any('backbone' in name or '.masker.conv.' in name for name in weights)
    model = ours(kind, arch, channels)
    model.load_state_dict(convert(weights, epoch=99, arch='las', best_acc1=torch.tensor(70.0)))
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(model(x), release(x))
    for trace, wanted in zip(model.backbone.traces, release.backbone.traces, strict=True):
        assert torch.equal(trace.mask, wanted.mask)
    rate = torch.stack([trace.activation_rate.mean() for trace in model.backbone.traces]).mean()
    assert 0.1 < rate < 0.9
