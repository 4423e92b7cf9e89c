"""Foreign checkpoints become ours: same outputs, safe, whole files."""

import hashlib
import os
import pickle
import subprocess
import sys

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmpretrain.registry import MODELS
from networks import always, randomize
from torchvision.models import resnet18
from torchvision.models.densenet import DenseNet
from torchvision.models.regnet import BlockParams, RegNet

import las_mm  # noqa: F401  (registers the backbones)
from las_mm.checkpoints.conversion import convert_names

SHAPE = dict(depth=6, w_0=16, w_a=10.0, w_m=2.0, group_width=8)
ARCH = dict(depth=6, w0=16, wa=10.0, wm=2.0, group_w=8, bot_mul=1.0, torchvision_widths=True)


def classifier(**backbone) -> torch.nn.Module:
    """An mmpretrain classifier with ten classes."""
    channels = backbone.pop('channels')
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=channels),
        )
    )


def regnet_pair(se_ratio):
    theirs = RegNet(BlockParams.from_init_params(**SHAPE, se_ratio=se_ratio), num_classes=10)
    stages = len(theirs.trunk_output)
    options = dict(strides=(2,) * stages, dilations=(1,) * stages, out_indices=(stages - 1,))
    granularity = '2-2-1-1'[: 2 * stages - 1]
    channels = theirs.fc.in_features
    arch = dict(ARCH, se_ratio=se_ratio or 0)
    ours = dict(type='LASRegNet', arch=arch, granularity=granularity, channels=channels)
    return theirs, classifier(**ours, **options)


def resnet_pair():
    ours = dict(type='LASResNet', depth=18, granularity='4-2-2-1', channels=512)
    return resnet18(num_classes=10), classifier(**ours)


def densenet_pair():
    theirs = DenseNet(4, (2, 3, 2, 2), 8, num_classes=10)
    arch = dict(growth_rate=4, depths=[2, 3, 2, 2], init_channels=8)
    channels = theirs.classifier.in_features
    ours = dict(type='LASDenseNet', arch=arch, granularity='4-2-2-1', channels=channels)
    return theirs, classifier(**ours)


PAIRS = {
    'resnet': resnet_pair,
    'regnetx': lambda: regnet_pair(None),
    'regnety': lambda: regnet_pair(0.25),
    'densenet': densenet_pair,
}


@pytest.mark.parametrize('kind', PAIRS)
def test_torchvision_s_network_gives_the_same_scores(kind):
    torch.manual_seed(0)
    theirs, ours = PAIRS[kind]()
    randomize(theirs).double().eval()
    missing, unexpected = ours.load_state_dict(convert_names(theirs.state_dict()), strict=False)
    assert not unexpected
    assert all('.masker.' in name for name in missing)
    always(ours, keep=True).double()
    ours.eval()
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


def test_names_of_timm_s_regnet():
    names = {
        'stem.conv.weight': 'backbone.conv1.weight',
        'stem.bn.running_mean': 'backbone.bn1.running_mean',
        's1.b1.conv1.conv.weight': 'backbone.layer1.0.conv1.weight',
        's1.b1.conv2.bn.bias': 'backbone.layer1.0.bn2.bias',
        's3.b12.se.fc1.weight': 'backbone.layer3.11.se.fc1.weight',
        's2.b1.downsample.conv.weight': 'backbone.layer2.0.downsample.0.weight',
        's2.b1.downsample.bn.weight': 'backbone.layer2.0.downsample.1.weight',
        'head.fc.bias': 'head.fc.bias',
    }
    weights = {name: torch.rand(1) for name in names}
    converted = convert_names(weights)
    assert list(converted) == list(names.values())
    assert all(torch.equal(converted[names[name]], weight) for name, weight in weights.items())


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ('layer1.0.masker.conv2.weight', 'backbone.layer1.0.masker.conv.weight'),
        ('module.layer3.22.masker.conv2.bias', 'backbone.layer3.22.masker.conv.bias'),
        ('layer1.0.conv2.weight', 'backbone.layer1.0.conv2.weight'),
        ('backbone.layer1.0.masker.conv2.weight', 'backbone.layer1.0.masker.conv.weight'),
        ('trunk_output.block2.block2-1.masker.conv2.bias', 'backbone.layer2.1.masker.conv.bias'),
        ('module.fc.weight', 'head.fc.weight'),
        ('rpn_head.rpn_conv.weight', 'rpn_head.rpn_conv.weight'),
        ('features.denseblock1.denselayer1.norm.1.bias', 'backbone.stages.0.block.0.norm1.bias'),
    ],
)
def test_names_of_lasnet_and_openmmlab(theirs, ours):
    assert list(convert_names({theirs: torch.zeros(1)})) == [ours]


def test_lasnet_s_decisions_are_kept():
    """The first logit keeps, in theirs as in ours."""
    torch.manual_seed(0)
    _, ours = resnet_pair()
    theirs = {}
    for name, weight in ours.state_dict().items():
        name = name.removeprefix('backbone.').replace('masker.conv.', 'masker.conv2.')
        theirs[f'module.{name.removeprefix("head.")}'] = torch.randn_like(weight.float()).abs()
    theirs['module.layer1.0.masker.conv2.weight'] *= 0
    theirs['module.layer1.0.masker.conv2.bias'] = torch.tensor([0.0, 1.0])
    ours.load_state_dict(convert_names(theirs))
    ours.eval()(torch.rand(1, 3, 64, 64))
    assert ours.backbone.traces[0].activation_rate.item() == 0


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ({'blocks.0.attn.qkv.weight': torch.zeros(1)}, 'blocks.0.attn.*name of no known project'),
        ({'conv1.weight': 3}, "'conv1.weight' is no weight but a int"),
    ],
)
def test_what_is_no_known_checkpoint_is_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        convert_names(weights)


def test_publishes_with_the_hash_of_the_file(load_tool, tmp_path, capsys):
    meta = {'dataset_meta': {'CLASSES': ['a', 'b']}, 'epoch': 3}
    source = dict(state_dict=resnet18().state_dict(), optimizer={'lr': 1}, meta=meta)
    torch.save(source, tmp_path / 'in.pth')
    arguments = [str(tmp_path / 'in.pth'), str(tmp_path / 'out' / 'r18.pth'), '--publish']
    load_tool('convert_checkpoint').main(arguments)
    (path,) = (tmp_path / 'out').iterdir()
    assert str(path) in capsys.readouterr().out
    assert path.name.startswith('r18_')
    assert path.stem[-8:] == hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    saved = CheckpointLoader.load_checkpoint(str(path), 'cpu')
    assert set(saved) == {'meta', 'state_dict'}
    assert saved['meta']['dataset_meta'] == meta['dataset_meta']
    assert torch.equal(saved['state_dict']['head.fc.bias'], source['state_dict']['fc.bias'])


class Evil:
    """Would run code if it were unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize('content', ['nothing', 'noise', 'code', 'suffix'])
def test_an_unfit_file_is_one_line_and_leaves_nothing(repo_root, tmp_path, content):
    source, out = tmp_path / 'in.pth', tmp_path / 'out.pth'
    if content == 'noise':
        source.write_bytes(b'PK' + bytes(100))
    elif content == 'code':
        source.write_bytes(pickle.dumps({'conv1.weight': Evil(tmp_path / 'ran')}))
    elif content == 'suffix':
        torch.save({'conv1.weight': torch.zeros(1)}, source)
        out = tmp_path / 'out.txt'
    command = [sys.executable, '-W', 'ignore', 'tools/convert_checkpoint.py', str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repo_root)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count('\n') == 1
    assert done.stderr.startswith('convert_checkpoint.py: error: ')
    assert {path.name for path in tmp_path.iterdir()} <= {'in.pth'}
