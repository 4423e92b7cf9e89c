"""Every config builds a model that learns, of the size it is known for."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from torch._subclasses import FakeTensorMode

from las_mm.models.backbone import DynamicBackbone, classifier_macs
from las_mm.ops import parse_granularity

ROOT = Path(__file__).resolve().parents[2]
# Those of vision transformers have tests of their own.
CONFIGS = sorted(
    path.name
    for path in (ROOT / 'configs').glob('*.py')
    if 'vit' not in path.name and 'deit' not in path.name
)
DEMOS = [name for name in CONFIGS if 'demo' in name]
# Those by the paper's recipe; DynConv with its own masker has its own.
CLASSIFIERS = [n for n in CONFIGS if n.endswith('_imagenet.py') and '_squeeze_' not in n]
# Millions of parameters and G multiply-accumulates at 224x224, as torchvision publishes them.
KNOWN = {
    'r50': (25.557032, 4.089),
    'r101': (44.549160, 7.801),
    'regnety-400mf': (4.344144, 0.402),
    'regnety-800mf': (6.432512, 0.834),
    'mobilenetv2': (3.504872, 0.301),
}


@cache
def load(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / name)


def network_of(name: str) -> str:
    """What a config computes apart from the decisions: its static model, in words."""
    model = json.loads(json.dumps(load(name).model.to_dict(), default=str))
    model['backbone'].pop('granularity', None)
    return json.dumps(model, sort_keys=True)


def one_per_network() -> list[str]:
    """The first config of every network of ours; of its granularities that is the finest one."""
    first = {}
    for name in CONFIGS:
        if 'laud_' in name:
            continue
        if load(name).model.backbone.type != 'ResNet' or name in DEMOS:
            first.setdefault(network_of(name), name)
    return list(first.values())


def build(cfg: Config) -> torch.nn.Module:
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


def inputs_and_samples(cfg, size=112):
    """Two small images with what the model needs to compute its losses."""
    if cfg.default_scope == 'mmpretrain':
        from mmpretrain.structures import DataSample

        samples = [DataSample().set_gt_label(label) for label in (0, 1)]
        return torch.rand(2, 3, size, size), samples
    from mmdet.testing import demo_mm_inputs

    shapes = [(3, size, size), (3, size, size // 2)]
    packed = demo_mm_inputs(2, shapes, num_items=[1, 2], num_classes=10, with_mask=True)
    return packed['inputs'], packed['data_samples']


def test_there_is_a_config_for_every_result():
    names = set(CONFIGS)
    for depth in (50, 101):
        for s_net in ('1-1-1-1', '4-4-2-1', '4-4-7-1', '8-4-7-1'):
            targets = ('0.4', '0.5', '0.6', '0.7')
            assert names >= {f'las_r{depth}_{s_net}_t-{t}_imagenet.py' for t in targets}
    for mode in ('channel-2222', 'layer'):
        for depth in (50, 101):
            assert names >= {f'laud_r{depth}_{mode}_t-0.{t}_imagenet.py' for t in range(4, 9)}
        for detector in ('faster_rcnn', 'retinanet', 'mask_rcnn', 'ddq_detr', 'mask2former'):
            assert any(name.startswith(f'{detector}_laud_r101_{mode}_t-') for name in names)
    for detector, rows in {
        'faster_rcnn': ('4-4-2-1_t-0.6', '4-4-2-1_t-0.5', '4-4-7-1_t-0.4'),
        'retinanet': ('4-4-2-1_t-0.5', '4-4-7-1_t-0.5', '4-4-7-1_t-0.4'),
        'mask_rcnn': ('4-4-2-1_t-0.5', '4-4-2-1_t-0.4', '4-4-7-1_t-0.4'),
    }.items():
        assert names >= {f'{detector}_las_r101_{row}_coco.py' for row in rows}
        assert f'{detector}_r101_coco.py' in names


# One of each network, every mode among them.
LAUD = [
    'laud_r50_layer_t-0.5_imagenet.py',
    'laud_regnety-400mf_channel-2222_t-0.5_imagenet.py',
    'laud_regnety-400mf_layer_t-0.6_imagenet.py',
    'faster_rcnn_laud_r101_channel-2222_t-0.8_coco.py',
    'retinanet_laud_r101_layer_t-0.5_coco.py',
    'mask_rcnn_laud_r101_channel-2222_t-0.8_coco.py',
    'ddq_detr_laud_r101_channel-2222_t-0.5_coco.py',
    'mask2former_laud_r101_layer_t-0.5_coco.py',
]


@pytest.mark.parametrize('name', [*one_per_network(), *LAUD])
def test_network_learns(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = load(name)
    if name.startswith('mask2former'):
        cfg = cfg.copy()  # its points and layers need gigabytes
        cfg.model.train_cfg.num_points = 64
        cfg.model.panoptic_head.transformer_decoder.num_layers = 1
        cfg.model.panoptic_head.pixel_decoder.encoder.num_layers = 1
    model = build(cfg).train()
    if name.startswith('ddq'):  # some of its parameters are bare memory until they are initialised
        model.backbone.init_cfg = None  # which would download
        model.init_weights()
    images, samples = inputs_and_samples(cfg)
    data = model.data_preprocessor({'inputs': images, 'data_samples': samples}, training=True)
    losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize('name', CONFIGS)
def test_config_does_what_its_name_says(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = load(name)
    if not ('las_' in name or 'laud_' in name or name.startswith('dynconv')):
        assert 'LAS' not in cfg.model.backbone.type
        return
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        assert issubclass(registry.get(cfg.model.backbone.type), DynamicBackbone)
    s_net, groups = cfg.model.backbone.granularity, cfg.model.backbone.get('channel_groups')
    stages = {'LASMobileNetV2': 5, 'LASResNetCIFAR': 3}.get(cfg.model.backbone.type, 4)
    assert len(parse_granularity(s_net, stages)) == stages
    if groups is not None:
        assert (s_net, f'channel-{groups.replace("-", "")}' in name) == (None, True)
    elif s_net == 'all':
        assert '_layer_' in name
    else:
        assert s_net in name or (name.startswith('dynconv') and set(s_net) == set('1-'))
    hooks = {hook['type']: HOOKS.build(hook) for hook in cfg.custom_hooks}
    assert {'GumbelTemperatureHook', 'LatencyReportHook', 'SafeCheckpointHook'} <= set(hooks)
    (target,) = [hook['target'] for hook in cfg.custom_hooks if 'target' in hook]
    assert f't-{target}' in name or ('t-' not in name and target == 0.5)
    if name not in DEMOS:
        alone = name.startswith('dynconv') or 'laud_' in name and name.endswith('_coco.py')
        assert ('DistillationHook' in hooks) is not alone
    if 'DistillationHook' in hooks and '::' not in hooks['DistillationHook'].teacher_config:
        assert Path(hooks['DistillationHook'].teacher_config).is_file()


@pytest.mark.parametrize(
    'name',
    [
        'las_r50_1-1-1-1_t-0.5_imagenet.py',
        'las_r101_1-1-1-1_t-0.5_imagenet.py',
        'las_regnety-400mf_4-4-2-1_t-0.5_imagenet.py',
        'las_regnety-800mf_4-4-2-1_t-0.5_imagenet.py',
        'las_mobilenetv2_4-4-2-2-1_t-0.5_imagenet.py',
    ],
)
def test_static_size_is_the_known_one(name):
    """Parameters and MACs of the network without its maskers."""
    model = build(load(name)).eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    parameters = sum(p.numel() for n, p in model.named_parameters() if '.masker.' not in n)
    macs = model.backbone.cost(classifier_macs(model)).static
    millions, gmacs = KNOWN[name.split('_')[1]]
    assert parameters == round(millions * 1e6)
    assert macs / 1e9 == pytest.approx(gmacs, abs=6e-4)


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_recipe_of_imagenet(name):
    """Appendix B.2: learning rate by batch, 100 epochs, cosine, weight decay of RegNet."""
    cfg = load(name)
    optimizer, gpus = cfg.optim_wrapper.optimizer, 8
    assert optimizer.lr == pytest.approx(0.01 * gpus * cfg.train_dataloader.batch_size / 128)
    assert cfg.auto_scale_lr.base_batch_size == gpus * cfg.train_dataloader.batch_size
    assert (optimizer.type, optimizer.momentum, optimizer.nesterov) == ('SGD', 0.9, True)
    assert optimizer.weight_decay == 5e-5
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler.T_max == 100
    steps = [step['type'] for step in cfg.train_dataloader.dataset.pipeline]
    assert steps == ['LoadImageFromFile', 'RandomResizedCrop', 'RandomFlip', 'PackInputs']
    hooks = {hook['type']: hook for hook in cfg.custom_hooks}
    if 'GumbelTemperatureHook' in hooks:
        temperature = hooks['GumbelTemperatureHook']
        assert (temperature.start, temperature.end) == (5.0, 0.1)


@pytest.mark.parametrize('name', [name for name in CONFIGS if '_las_r101_' in name])
def test_recipe_of_coco(name):
    """Appendix B.3: 12 epochs, a smaller learning rate for the backbone, constant temperature."""
    cfg = load(name)
    wanted = 0.2 if name.startswith('retinanet') else 0.5
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult == wanted
    assert cfg.train_cfg.max_epochs == 12
    hook = next(hook for hook in cfg.custom_hooks if hook['type'] == 'GumbelTemperatureHook')
    assert hook.start == 0.1
    assert hook.get('end') is None
    assert cfg.model.backbone.init_cfg.checkpoint == 'torchvision://resnet101'


@pytest.mark.parametrize('name', [name for name in CONFIGS if '_squeeze_' in name])
def test_recipe_of_dynconv(name):
    """Its masker, loss, temperatures by epoch, and noise for four fifths of the training."""
    cfg = load(name)
    assert cfg.model.backbone.masker == dict(kind='squeeze')
    assert set(cfg.model.backbone.granularity) == set('1-')
    hooks = {hook['type']: HOOKS.build(hook) for hook in cfg.custom_hooks}
    loss, tau = hooks['SparsityLossHook'], hooks['GumbelTemperatureHook']
    assert (loss.alpha, loss.bounds, loss.bounded, loss.by_epoch) == (10, True, 'flops_ratio', True)
    epochs = cfg.train_cfg.max_epochs
    quiet = [epoch for epoch in range(epochs) if epoch / epochs >= tau.noise_until]
    assert tau.by_epoch and quiet[0] == 0.8 * epochs + 1
    found = [tau.temperature(epoch / epochs) for epoch in (0, epochs // 2, epochs - 1)]
    assert found == ([1, 1, 1] if 'cifar10' in name else [5, 2.5, 1])
