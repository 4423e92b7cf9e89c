"""Choosing S_net for a config: ranking, knee, Pareto set, and the config that is written."""

import numpy as np
import pytest
from mmengine.config import Config

from las_mm.config.input_size import configured_input_size
from las_mm.latency.search import (
    configured_network,
    pareto_front,
    rank_granularities,
    shared_knee,
    write_config,
)
from latency_predictor import LatencyModel
from latency_predictor.search import search_granularity

DEMO = 'configs/faster_rcnn_las_r50_4-4-2-1_demo.py'
CLASSIFIER = 'configs/las_r50_4-4-2-1_demo.py'


@pytest.fixture(scope='module')
def network(repo_root):
    return configured_network(Config.fromfile(repo_root / DEMO), (128, 128))


@pytest.fixture(scope='module')
def models():
    return [LatencyModel('tx2'), LatencyModel('v100')]


def test_the_network_is_the_config_s_own(network):
    assert network.input_size == (128, 128)
    assert len(network.blocks) == 16
    assert network.blocks[0].in_channels == 16, "the demo's width"


@pytest.mark.parametrize(
    ('config', 'size', 'stages'),
    [('las_mobilenetv2_4-4-2-2-1_t-0.5_imagenet.py', 224, 5)]
    + [('dynconv_r32_squeeze_t-0.5_cifar10.py', 32, 3)],
)
def test_light_networks_are_searched(repo_root, config, size, stages, models):
    cfg = Config.fromfile(repo_root / 'configs' / config)
    cfg.model.backbone.pop('granularity', None)
    cfg.model.backbone.pop('masker', None)
    found = configured_network(cfg, (size, size))
    assert len(found.granularity) == stages
    choices, _ = rank_granularities(found, models[:1], 0.5, [[1, 2]] * stages)
    assert len(choices) == 2**stages


def test_ranking_holds_every_legal_choice_with_the_predictor_s_latency(network, models):
    choices, _ = rank_granularities(network, models[:1], 0.5)
    # Maps of 32, 16, 8, 4 pixels: the powers of two below.
    assert len(choices) == len({c.granularity for c in choices}) == 5 * 4 * 3 * 2
    assert [c.ranks[0] for c in choices] == list(range(1, len(choices) + 1))
    one = next(c for c in choices if c.granularity == (4, 4, 2, 1))
    wanted = models[0].network(network.with_granularity('4-4-2-1'), 0.5)
    assert one.dynamic_ms[0] == pytest.approx(wanted.dynamic_ms)
    assert one.ratios[0] == pytest.approx(wanted.ratio)
    assert [c.pareto for c in choices] == [True] + [False] * (len(choices) - 1)


def test_pareto_set_of_several_devices_is_what_nothing_beats(network, models):
    choices, _ = rank_granularities(network, models, 0.5, [[1, 2, 4]] * 4)
    for choice in choices:
        beaten = any(
            all(a <= b for a, b in zip(other.ratios, choice.ratios, strict=True))
            and other.ratios != choice.ratios
            for other in choices
        )
        assert choice.pareto == (not beaten), choice.label


def test_pareto_front_keeps_equals():
    costs = np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])
    assert pareto_front(costs).tolist() == [True, True, False, True]


def test_knee_is_the_predictor_s_and_holds_on_every_device(network, models):
    alone = [search_granularity(model, network, 0.5) for model in models]
    for search in alone:
        assert shared_knee([search]) == search.recommended.granularity
    for stage, size in enumerate(shared_knee(alone)):
        assert size >= max(search.recommended.granularity[stage] for search in alone)
        for search in alone:
            ratios = search.stage_ratios[stage]
            assert all(ratios[size] - ratios[s] <= 0.05 + 1e-12 for s in ratios if s > size)


def test_written_config_sets_the_choice_and_nothing_else(repo_root, tmp_path):
    target = tmp_path / 'chosen.py'
    write_config(repo_root / DEMO, target, (8, 4, 2, 2), 'why')
    written, base = Config.fromfile(target), Config.fromfile(repo_root / DEMO)
    assert written.model.backbone.pop('granularity') == '8-4-2-2'
    assert base.model.backbone.pop('granularity') == '4-4-2-1'
    assert written.to_dict() == base.to_dict()
    assert [path.name for path in tmp_path.iterdir()] == ['chosen.py']


def test_existing_config_is_not_overwritten(repo_root, tmp_path):
    target = tmp_path / 'mine.py'
    target.write_text('x = 1')
    with pytest.raises(ValueError, match='--write: .*mine.py.* exists'):
        write_config(repo_root / DEMO, target, (1, 1, 1, 1), 'why')
    with pytest.raises(FileNotFoundError, match='create it first'):
        write_config(repo_root / DEMO, tmp_path / 'no' / 'new.py', (1, 1, 1, 1), 'why')
    assert target.read_text() == 'x = 1'


def test_static_backbone_is_refused(repo_root):
    with pytest.raises(ValueError, match="model.backbone.type: 'ResNet' is static"):
        configured_network(Config.fromfile(repo_root / 'configs/faster_rcnn_r50_demo.py'), (64, 64))


@pytest.mark.parametrize(
    ('pipeline', 'divisor', 'size'),
    [
        ([dict(type='Resize', scale=(1333, 800), keep_ratio=True)], 32, (800, 1344)),
        ([dict(type='Resize', scale=(320, 200), keep_ratio=False)], 1, (200, 320)),
        ([dict(type='Resize', scale=256), dict(type='CenterCrop', crop_size=224)], 1, (224, 224)),
        ([dict(type='Resize', scale=100)], 32, (128, 128)),
    ],
)  # fmt: skip
def test_input_size_follows_the_pipeline(pipeline, divisor, size):
    cfg = Config(
        dict(
            model=dict(data_preprocessor=dict(pad_size_divisor=divisor)),
            test_dataloader=dict(dataset=dict(type='Wrapped', dataset=dict(pipeline=pipeline))),
        )
    )
    assert configured_input_size(cfg) == size


def test_input_size_of_the_report_hook_comes_first(repo_root):
    cfg = Config.fromfile(repo_root / DEMO)
    assert configured_input_size(cfg) == (256, 256)
    cfg.custom_hooks.append(dict(type='LatencyReportHook', input_size=(800, 1344)))
    assert configured_input_size(cfg) == (800, 1344)


def test_unknown_input_size_is_asked_for(repo_root):
    cfg = Config.fromfile(repo_root / CLASSIFIER)
    assert configured_input_size(cfg) == (64, 64)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        steps = loader.dataset.pipeline
        loader.dataset.pipeline = [step for step in steps if step.type != 'Resize']
    with pytest.raises(ValueError, match='--input-size 224 224'):
        configured_input_size(cfg)


def test_tool_shows_the_ranking_and_writes(load_tool, repo_root, tmp_path, monkeypatch, capsys):
    target = tmp_path / 'new.py'
    argv = ['search', str(repo_root / DEMO), '--device', 'tx2,v100', '--input-size', '64', '64']
    monkeypatch.setattr('sys.argv', [*argv, '--write', str(target), '--candidates', '1,2,4'])
    load_tool('search_granularity').main()
    printed = capsys.readouterr().out
    chosen = Config.fromfile(target).model.backbone.granularity
    assert f'S_net {chosen}' in printed
    assert 'knee' in printed and 'pareto' in printed and 'v100 ms' in printed


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--candidates', '0,2'], '--candidates'),
        (['--top', '0'], '--top'),
        (['--device', 'abacus'], 'abacus'),
        (['--rate', '1.5'], '1.5'),
        (['--choose', '4-4'], '4-4'),
        (['--input-size', '0', '64'], '--input-size'),
    ],
)
def test_wrong_options_are_named(load_tool, repo_root, monkeypatch, options, message):
    argv = ['search', str(repo_root / DEMO), '--input-size', '64', '64', *options]
    monkeypatch.setattr('sys.argv', argv)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_tool('search_granularity').main()
