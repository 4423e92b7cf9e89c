"""Static checkpoints load with nothing but maskers missing; another network's are refused."""

import pytest
import torch
import torchvision
from detectors import build_model, two_stage
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from test_backbone import FRAMEWORKS, build

BIASES = [5.0, 1.0]


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


def pretrained(framework: str, checkpoint: str, depth: int = 18, **options) -> torch.nn.Module:
    """A LASResNet that has loaded a checkpoint by its config."""
    init = dict(type='Pretrained', checkpoint=str(checkpoint), **options)
    network = build(framework, True, depth=depth, init_cfg=init)
    network.init_weights()
    return network


def assert_holds(network: torch.nn.Module, weights: dict) -> None:
    """The network's static weights are those, and its maskers are fresh."""
    state = network.state_dict()
    loaded = {name for name in state if '.masker.' not in name}
    assert loaded <= set(weights)
    for name in loaded:
        assert torch.equal(state[name], weights[name]), name
    assert all(block.masker.conv.bias.tolist() == BIASES for block in network.blocks)


def test_torchvision_url(framework, tmp_path, monkeypatch):
    """As published: the file lies where torch's hub keeps what it has downloaded."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    weights = torchvision.models.resnet18().state_dict()
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    torch.save(weights, folder / url.split('/')[-1])
    init = dict(type='Pretrained', checkpoint='torchvision://resnet18')
    network = FRAMEWORKS[framework].build(dict(type='LASResNet', depth=18, init_cfg=init))
    network.init_weights()
    assert_holds(network, weights)


@pytest.mark.parametrize('depth', [18, 50])
def test_backbone_file_of_the_other_framework(tmp_path, depth):
    for source, target in (('mmdet', 'mmpretrain'), ('mmpretrain', 'mmdet')):
        weights = build(source, False, depth=depth).state_dict()
        torch.save(dict(state_dict=weights, meta={}), tmp_path / 'static.pth')
        assert_holds(pretrained(target, tmp_path / 'static.pth', depth), weights)


def test_backbone_inside_a_classifier(framework, tmp_path):
    weights = build('mmpretrain', False, depth=18).state_dict()
    whole = {f'backbone.{name}': weight for name, weight in weights.items()}
    whole['head.fc.weight'] = torch.zeros(10, 32)
    torch.save(dict(state_dict=whole), tmp_path / 'classifier.pth')
    assert_holds(pretrained(framework, tmp_path / 'classifier.pth', prefix='backbone.'), weights)


def test_a_static_detector_loads_whole(tmp_path):
    torch.manual_seed(1)
    static = build_model(two_stage('ResNet'))
    torch.save(dict(state_dict=static.state_dict(), meta={}), tmp_path / 'detector.pth')
    dynamic = build_model(two_stage())
    missing, unexpected = dynamic.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert all('.masker.' in name for name in missing)
    dynamic = build_model(two_stage())
    load_checkpoint(dynamic, str(tmp_path / 'detector.pth'), map_location='cpu')
    state = dynamic.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in static.state_dict().items())


def test_a_dynamic_checkpoint_brings_its_maskers(framework, tmp_path):
    source = build(framework, True, depth=18)
    for block in source.blocks:
        torch.nn.init.normal_(block.masker.conv.bias)
    torch.save(source.state_dict(), tmp_path / 'dynamic.pth')
    network = pretrained(framework, tmp_path / 'dynamic.pth')
    for name, weight in source.state_dict().items():
        assert torch.equal(network.state_dict()[name], weight), name


@pytest.mark.parametrize('depth', [18, 50])
def test_initialisation_is_the_static_one_and_spares_the_maskers(framework, depth):
    networks = [build(framework, dynamic, depth=depth) for dynamic in (False, True)]
    for network in networks:
        network.init_weights()
    static, dynamic = networks
    state = dynamic.state_dict()
    zero = {name for name, weight in static.state_dict().items() if not weight.any()}
    last = 'bn3' if depth == 50 else 'bn2'
    assert {f'{block.name}.{last}.weight' for block in dynamic.blocks} <= zero
    assert zero == {n for n, weight in state.items() if not weight.any() and '.masker.' not in n}
    for block in dynamic.blocks:
        assert block.masker.conv.bias.tolist() == BIASES
        assert block.masker.conv.weight.std() > 0


def test_masker_options_survive_initialisation(framework):
    network = build(framework, True, masker=dict(keep_bias=10.0))
    network.init_weights()
    assert all(block.masker.conv.bias.tolist() == [10.0, 1.0] for block in network.blocks)


@pytest.mark.parametrize(
    ('saved', 'wanted', 'message'),
    [
        (18, 50, r'2-2-2-2 blocks per stage, the LASResNet has 3-4-6-3; .* same depth'),
        (50, 101, r'3-4-6-3 blocks per stage, the LASResNet has 3-4-23-3'),
        (34, 50, r"backbone's \S+ has shape .*same depth, width"),
    ],
)
def test_another_depth_is_refused_however_it_is_loaded(framework, tmp_path, saved, wanted, message):
    path = tmp_path / 'other.pth'
    torch.save(build(framework, False, depth=saved).state_dict(), path)
    with pytest.raises(ValueError, match=message) as error:
        pretrained(framework, path, wanted)
    assert '\n' not in str(error.value)
    network = build(framework, True, depth=wanted)
    for load in (
        lambda: load_checkpoint(network, str(path), map_location='cpu'),
        lambda: network.load_state_dict(torch.load(path), strict=False),
        lambda: load_checkpoint(  # inside a model
            torch.nn.Sequential(network), str(path), 'cpu', revise_keys=[('^', '0.')]
        ),
    ):
        with pytest.raises(ValueError, match=message):
            load()


def test_another_width_is_refused(framework, tmp_path):
    torch.save(build(framework, False, depth=18, base_channels=8).state_dict(), tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='has shape .*; give .* of the same depth, width'):
        pretrained(framework, tmp_path / 'w.pth')


def test_the_configs_name_weights_that_torchvision_has(repo_root):
    cfg = Config.fromfile(repo_root / 'configs' / 'faster_rcnn_las_r101_4-4-7-1.py')
    assert cfg.model.backbone.init_cfg.checkpoint == 'torchvision://resnet101'
    assert cfg.model.backbone.depth == 101
