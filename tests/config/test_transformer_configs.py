"""Configs of vision transformers: what their names say, their recipes, and that each one learns."""

from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmpretrain.structures import DataSample

from las_mm.hooks import SparsityLossHook, UsageLossHook
from las_mm.models.transformer import DynamicTransformer

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    p.name
    for kind in ('vit', 'deit')
    for p in (ROOT / 'configs').glob(f'*{kind}*.py')
    if not p.name.endswith('_coco.py')
)
RECIPES = [name for name in CONFIGS if 'demo' not in name]
DYNAMIC = [name for name in RECIPES if name.startswith(('ada_', 'laud_'))]
MODES = {mode: [mode] for mode in ('tokens', 'heads', 'blocks')}
MODES['joint'] = ['tokens', 'heads', 'blocks']


@cache
def load(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / name)


def small(name: str) -> tuple[Config, torch.nn.Module]:
    """A config, and its model with two narrow layers for images of 64 pixels."""
    cfg = load(name).copy()
    backbone = cfg.model.backbone
    size = dict(num_layers=2, embed_dims=28)
    if 'T2T' in backbone.type:
        backbone.update(size, layer_cfgs=dict(num_heads=7, feedforward_channels=84))
        backbone.t2t_cfg.token_dims = 8
    else:
        backbone.arch = dict(size, num_heads=7, feedforward_channels=112)
        backbone.setdefault('patch_size', 16)
    backbone.img_size = 64
    cfg.model.head.in_channels = 28
    init_default_scope(cfg.default_scope)
    model = MODELS.build(dict(cfg.model, data_preprocessor=dict(cfg.data_preprocessor)))
    model.init_weights()
    return cfg, model


@pytest.mark.parametrize('name', CONFIGS)
def test_each_learns(name):
    torch.manual_seed(0)
    _, model = small(name)
    model.train()
    for weight in model.head.parameters():
        torch.nn.init.normal_(weight)  # some start with zeros, which teach nothing at first
    samples = [DataSample().set_gt_label(label) for label in (0, 1)]
    images = torch.randint(0, 256, (2, 3, 64, 64))
    data = model.data_preprocessor({'inputs': images, 'data_samples': samples}, training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert loss.isfinite()
    assert model.backbone.cls_token.grad.abs().sum() > 0
    if not isinstance(model.backbone, DynamicTransformer):
        return
    for masker in (masker for block in model.backbone.blocks for masker in block.maskers):
        # The model's initial weights are not the maskers'.
        assert (masker.mlp_head.bias == masker.keep_bias).all()
        assert masker.mlp_head.weight.grad.isfinite().all()


@pytest.mark.parametrize('name', DYNAMIC)
def test_each_does_what_its_name_says(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = load(name)
    network, mode = name.split('_')[1:3]
    kind = {'t2t-vit-19': 'LAST2T_ViT', 'deit-s': 'LASVisionTransformer'}[network]
    assert cfg.model.backbone.type == kind
    hooks = {hook['type']: HOOKS.build(hook) for hook in cfg.custom_hooks}
    assert {'EMAHook', 'LatencyReportHook', 'SafeCheckpointHook', 'InvalidLossHook'} <= set(hooks)
    tau = hooks['GumbelTemperatureHook']
    if name.startswith('ada_'):
        assert 'policies' not in cfg.model.backbone  # all of them
        loss = hooks['UsageLossHook']
        assert isinstance(loss, UsageLossHook) and loss.alpha == 2 and loss.squared == {'tokens'}
        assert loss.targets == dict(tokens=0.5, heads=0.5, blocks=0.5)
        assert tau.start == tau.end == 5
        assert 'DistillationHook' not in hooks
    else:
        assert cfg.model.backbone.policies == MODES[mode]
        loss = hooks['SparsityLossHook']
        assert isinstance(loss, SparsityLossHook) and loss.bounded == 'flops_ratio'
        assert f'_t-{loss.target.value}_' in name
        assert (tau.start, tau.end) == (5, 0.1)
        teacher = hooks['DistillationHook']
        assert teacher.checkpoint == cfg.load_from
        static = load(Path(teacher.teacher_config).name).model
        assert static.backbone.type == 'T2T_ViT'


def test_static_and_dynamic_networks_are_the_same_but_for_their_maskers():
    for name in DYNAMIC:
        network = name.split('_')[1]
        static, dynamic = (small(n)[1].state_dict() for n in (f'{network}_imagenet.py', name))
        assert static.keys() < dynamic.keys()
        assert all('masker' in extra for extra in dynamic.keys() - static.keys())
        assert all(dynamic[key].shape == weight.shape for key, weight in static.items())


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_of_adavit(name):
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 5e-4, 0.05)
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 512
    up, down = cfg.param_scheduler
    assert optimizer.lr * up.start_factor == pytest.approx(1e-6) and up.end == down.begin == 10
    assert (down.eta_min, down.end, cfg.train_cfg.max_epochs) == (1e-5, 300, 310)
    assert cfg.model.backbone.drop_path_rate == 0.1
    assert [mix.type for mix in cfg.model.train_cfg.augments] == ['Mixup', 'CutMix']
    assert cfg.model.head.loss.label_smooth_val == 0.1
    steps = {step['type']: step for step in cfg.train_dataloader.dataset.pipeline}
    assert steps['RandAugment'].magnitude_level == 9
    assert steps['RandomErasing'].erase_prob == 0.25
    (average,) = (hook for hook in cfg.custom_hooks if hook['type'] == 'EMAHook')
    assert average['momentum'] == pytest.approx(1 - 0.99996)


def test_the_dynamic_demo_starts_from_the_static_one():
    static, dynamic = load('vit_demo.py'), load('las_vit_demo.py')
    assert dynamic.load_from == f'work_dirs/vit_demo/epoch_{static.train_cfg.max_epochs}.pth'
    init_default_scope(static.default_scope)
    ours, theirs = (MODELS.build(cfg.model).state_dict() for cfg in (dynamic, static))
    assert {name for name in ours if 'masker' not in name} == set(theirs)
