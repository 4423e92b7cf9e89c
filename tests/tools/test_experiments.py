"""The plan of the experiments, their configs, and the page that is made of the results."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('run_experiments')


@pytest.fixture
def experiments(tool):
    return tool.plan(['cifar10'], [0, 1])


def named(experiments, name):
    return next(e for e in experiments if e.name == f'cifar10_{name}')


def report_of(accuracy, macs=60e6):
    """What a test leaves."""
    stages = [dict(activation_rate=rate) for rate in (0.7, 0.5, 0.4)]
    ms = dict(static_ms=macs / 1e7, dynamic_ms=macs / 1e7)
    rows = [dict(device=device, **ms) for device in ('tx2', 'v100')]
    return dict(
        metrics={'accuracy/top1': accuracy}, granularity='4-4-2', stages=stages, devices=rows,
        flops=dict(static=macs, dynamic=macs), object_rates=dict(ratio=1.4),
        measured=ms,
        run=dict(checkpoint='where the run was made'),
    )  # fmt: skip


def finish(tool, experiment, records, accuracy, macs=60e6):
    tool.Records(records).add(experiment, report_of(accuracy, macs))


def test_plan_has_every_setting_once_after_what_it_needs(tool, experiments):
    for found in (experiments, tool.plan(list(tool.TASKS), [0, 1, 2])):
        names = [experiment.name for experiment in found]
        assert len(names) == len(set(names))
        for place, experiment in enumerate(found):
            assert all(needed.name in names[:place] for needed in experiment.needs)
    assert sum(e.name.endswith('r56_4-4-2_t0.5_seed1') for e in experiments) == 1
    assert not [e for e in experiments if e.seed == 1 and e.distilled != 'no']


def every_kind(tool):
    """The first experiment of each task, network, mode and distillation."""
    found = {}
    for e in tool.plan(list(tool.TASKS), [3]):
        found.setdefault((e.task, e.network, e.mode, e.distilled, e.first), e)
    return list(found.values())


def test_configs_are_those_of_the_settings_and_build(tool, repo_root, tmp_path):
    for experiment in every_kind(tool):
        cfg = tool.make_config(experiment, repo_root, tmp_path, None)
        path = tmp_path / 'config.py'
        path.write_text(cfg.pretty_text)
        assert Config.fromfile(path).model.to_dict() == cfg.model.to_dict()
        init_default_scope(cfg.default_scope)
        backbone = MODELS.build(cfg.model).backbone
        maskers = [name for name, _ in backbone.named_parameters() if 'masker' in name]
        hooks = {hook['type']: hook for hook in cfg.custom_hooks}
        is_static = experiment.target is None
        assert (not maskers) == is_static == ('SparsityLossHook' not in hooks), experiment.name
        assert ('DistillationHook' in hooks) == (experiment.distilled != 'no')
        assert cfg.randomness.seed == 3
        test_cfg = tool.make_test_config(experiment, cfg)
        assert test_cfg.model.backbone.type.startswith('LAS')
        if experiment.start is not None:
            assert cfg.load_from == str(tmp_path / experiment.start.name / 'last.pth')


def test_distillation_and_length_are_as_asked(tool, repo_root, tmp_path, experiments):
    experiment = named(experiments, 'r56_4-4-2_t0.5_kd-reverse_seed0')
    cfg = tool.make_config(experiment, repo_root, tmp_path, 7)
    hooks = {hook['type']: hook for hook in cfg.custom_hooks}
    teacher = tmp_path / 'cifar10_r56_static_seed0'
    kd = hooks['DistillationHook']
    assert (kd['reverse'], kd['teacher']) == (True, str(teacher / 'config.py'))
    assert kd['checkpoint'] == str(teacher / 'last.pth') and cfg.train_cfg.max_epochs == 7
    assert hooks['SparsityLossHook']['target'] == 0.5


def test_page_says_that_nothing_was_run(tool, tmp_path):
    path = tmp_path / 'docs' / 'experiments.md'
    tool.write_document([], 52, path)
    text = path.read_text()
    assert 'have not been made yet' in text and 'python tools/misc/run_experiments.py' in text


def test_page_shows_results_spread_and_what_is_missing(tool, experiments, tmp_path):
    path = tmp_path / 'docs' / 'experiments.md'
    records = path.with_suffix('')
    finish(tool, named(experiments, 'r56_static_seed0'), records, 88.0, 125e6)
    finish(tool, named(experiments, 'r20_static_seed0'), records, 84.0, 40e6)
    finish(tool, named(experiments, 'r56_4-4-2_t0.5_seed0'), records, 85.0)
    finish(tool, named(experiments, 'r56_4-4-2_t0.5_seed1'), records, 87.0, 65e6)
    finish(tool, named(experiments, 'r56_4-4-2_t0.4_seed0'), records, 83.0)
    finish(tool, named(experiments, 'r56_4-4-2_t0.7_seed0'), records, 89.0)
    finish(tool, named(experiments, 'r32_static_seed0'), records, 83.5, 70e6)  # R20 surpasses it
    results = tool.Records(records).all(experiments)
    tool.write_document(results, len(experiments), path)
    text = path.read_text()
    assert f'**7 of {len(experiments)} runs have been made**' in text
    row = '| r56 | 4-4-2 | 0.5 | no | 2 | 86.0 ± 1.4 | 62.5 ± 3.5 | 6.250 ± 0.354 |'
    assert row in text and '| 0.70 0.50 0.40 | 1.40 ± 0.00 |' in text
    assert '| r56 | static | – | no | 1 | 88.0 | 125.0 |' in text
    # 86 % lie halfway between the static networks: 82.5 M, of which the dynamic one takes 62.5.
    assert '- 4-4-2, t = 0.5: 0.76 (MACs of an image), 0.76 (predicted latency, tx2)' in text
    # 83 % the cheapest one surpasses: 40 M, where the dynamic one takes 60. 89 % none has.
    assert '- 4-4-2, t = 0.4: 1.50 (MACs of an image)' in text
    assert '- 4-4-2, t = 0.7: no static network of the family is as accurate' in text
    assert (path.parent / 'images' / 'experiments_cifar10.png').stat().st_size > 1000

    findings = '\n## What the runs say\n\nOurs.\n'
    path.write_text(text.replace('86.0', '99.9') + findings)
    tool.write_document(results, len(experiments), path)
    assert path.read_text() == text + findings


def test_complete_runs_are_left_alone_and_needs_are_named(tool, experiments, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(tool, 'run', lambda experiment, *_: called.append(experiment.name))
    page = tmp_path / 'page.md'
    finish(tool, experiments[0], tmp_path / 'page', 0.4)
    argv = ['run', '--tasks', 'cifar10', '--seeds', '0', '1', '--only', 'r56_static']
    monkeypatch.setattr('sys.argv', [*argv, '--out', str(tmp_path), '--document', str(page)])
    tool.main()
    assert called == ['cifar10_r56_static_seed1']
    monkeypatch.undo()
    records = tool.Records(tmp_path / 'page')
    distilled = named(experiments, 'r56_4-4-2_t0.5_kd-teacher_seed0')
    with pytest.raises(ValueError, match=r'last.pth is missing; remove .*static_seed0.json to'):
        tool.run(distilled, tmp_path, records, None)
    records.path(experiments[0]).unlink()
    with pytest.raises(ValueError, match='cifar10_r56_static_seed0 is missing; run it first'):
        tool.run(distilled, tmp_path, records, None)


def test_testing_again_renews_records(tool, experiments, repo_root, tmp_path, monkeypatch):
    page, first = tmp_path / 'page.md', experiments[0]
    finish(tool, first, tmp_path / 'page', 0.4)
    records = tool.Records(tmp_path / 'page')
    folder = tmp_path / first.name
    folder.mkdir()
    argv = ['run', '--tasks', 'cifar10', '--seeds', '0', '1', '--test-again']
    monkeypatch.setattr('sys.argv', [*argv, '--out', str(tmp_path), '--document', str(page)])
    with pytest.raises(ValueError, match='config.py is missing; remove the record of cifar10_'):
        tool.main()
    (folder / 'config.py').write_text(
        tool.make_config(first, repo_root, tmp_path, None).pretty_text
    )
    (folder / 'last.pth').touch()
    called = []

    def run_tool(name, *argv):
        called.append(name)
        (folder / 'latency_report.json').write_text(json.dumps(report_of(0.31)))

    monkeypatch.setattr(tool, 'tool', run_tool)
    tool.main()
    assert called == ['test.py'] and records.get(first).accuracy == 0.31
    assert 'run' not in records.get(first).record and len(records.all(experiments)) == 1


def test_a_static_network_is_tested_with_everything_kept(tool, experiments, repo_root, tmp_path):
    static = tool.make_config(experiments[0], repo_root, tmp_path, None)
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    trained = MODELS.build(static.model).eval()
    tested = MODELS.build(tool.make_test_config(experiments[0], static).model).eval()
    missing, unexpected = tested.load_state_dict(trained.state_dict(), strict=False)
    assert all('masker' in name for name in missing) and not unexpected
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(trained(images)[0], tested(images)[0])
        assert all(trace.mask.all() for trace in tested.backbone.traces)
