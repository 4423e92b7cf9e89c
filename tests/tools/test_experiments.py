"""The plan of the experiments, their configs, and the page that is made of the results."""

import json

import pytest
from mmengine.config import Config


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('run_experiments')


@pytest.fixture
def experiments(tool):
    return tool.plan(['detection'], [0, 1])


def finish(tool, experiment, records, accuracy, latency=0.8):
    """Leave what a complete run leaves."""
    report = None
    if experiment.target is not None:
        stages = [dict(activation_rate=rate) for rate in (0.7, 0.5, 0.4, 0.3)]
        rows = [dict(device='tx2', static_ms=10.0, dynamic_ms=10 * latency, ratio=latency)]
        report = dict(
            granularity=experiment.granularity, flops=dict(static=4e9, dynamic=2e9, ratio=0.5),
            stages=stages, devices=rows, measured=dict(ratio=0.9), object_rates=dict(ratio=1.4),
            run=dict(checkpoint='where the run was made'),
        )  # fmt: skip
    tool.Records(records).add(experiment, {'coco/bbox_mAP': accuracy}, report)


def test_plan_has_every_setting_once_after_what_it_needs(experiments):
    names = [experiment.name for experiment in experiments]
    # 2 static, 2 longer, 3 t x 3 S_net x KD on and off, one more headline seed, 2 by latency.
    assert len(names) == len(set(names)) == 2 + 2 + 18 + 1 + 2
    for place, experiment in enumerate(experiments):
        if experiment.target is not None or experiment.longer:
            assert experiment.static.name in names[:place]
        if experiment.by_latency:
            assert experiment.by_flops.name in names[:place]


@pytest.mark.parametrize('task', ['detection', 'classification'])
def test_configs_are_those_of_the_settings(tool, repo_root, tmp_path, task):
    static, longer, *_ = plan = tool.plan([task], [3])
    cfg = tool.make_config(static, repo_root, tmp_path, None, 2)
    assert cfg.model.backbone.type == 'ResNet' and 'granularity' not in cfg.model.backbone
    assert cfg.load_from is None and cfg.train_cfg.max_epochs == 2
    cfg = tool.make_config(longer, repo_root, tmp_path, None, None)
    assert cfg.model.backbone.type == 'ResNet'
    assert cfg.load_from == str(tmp_path / static.name / 'last.pth')
    plain = next(e for e in plan if e.target == 0.7 and not e.distilled)
    cfg = tool.make_config(plain, repo_root, tmp_path, None, None)
    hooks = [hook['type'] for hook in cfg.custom_hooks]
    assert 'DistillationHook' not in hooks
    by_latency = next(e for e in plan if e.by_latency)
    cfg = tool.make_config(by_latency, repo_root, tmp_path, 0.77, None)
    hooks = {hook['type']: hook for hook in cfg.custom_hooks}
    target = hooks['SparsityLossHook']['target']
    assert (target['latency'], target['device']) == (0.77, 'tx2')
    assert hooks['DistillationHook']['checkpoint'] == cfg.load_from
    assert cfg.randomness.seed == 3
    path = tmp_path / 'config.py'
    path.write_text(cfg.pretty_text)
    assert Config.fromfile(path).model.to_dict() == cfg.model.to_dict()


def test_page_says_that_nothing_was_run(tool, tmp_path):
    path = tmp_path / 'docs' / 'experiments.md'
    tool.write_document([], 52, path)
    text = path.read_text()
    assert 'have not been made yet' in text and 'python tools/misc/run_experiments.py' in text


def test_page_shows_results_spread_and_what_is_missing(tool, experiments, tmp_path):
    path = tmp_path / 'docs' / 'experiments.md'
    records = path.with_suffix('')
    headline = [e for e in experiments if e.name.startswith('detection_t0.5_4-4-2-1_kd')]
    accuracies = (0.4, 0.5, 0.45, 0.35, 0.37)
    for experiment, accuracy in zip([*experiments[:3], *headline], accuracies, strict=True):
        finish(tool, experiment, records, accuracy)
    results = tool.Records(records).all(experiments)
    assert len(results) == 5
    tool.write_document(results, len(experiments), path)
    text = path.read_text()
    assert '**5 of 25 runs have been made**' in text
    assert '| static | – | – | 2 | 0.450 ± 0.071 | – |' in text
    row = '| t = 0.5 | 4-4-2-1 | yes | 2 | 0.360 ± 0.014 | 0.500 ± 0.000 | 0.800 ± 0.000 | '
    row += '0.900 ± 0.000 | 0.70 0.50 0.40 0.30 | 1.400 ± 0.000 |'
    assert row in text
    assert (path.parent / 'images' / 'experiments_detection.png').stat().st_size > 1000

    findings = '\n## What the runs say\n\nOurs.\n'
    path.write_text(text.replace('0.450', '0.999') + findings)
    tool.write_document(results, len(experiments), path)
    assert path.read_text() == text + findings


def test_complete_runs_are_left_alone_and_needs_are_named(tool, experiments, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(tool, 'run', lambda experiment, *_: called.append(experiment.name))
    page = tmp_path / 'page.md'
    finish(tool, experiments[0], tmp_path / 'page', 0.4)
    argv = ['run', '--tasks', 'detection', '--seeds', '0', '1', '--only', 'static']
    monkeypatch.setattr('sys.argv', [*argv, '--out', str(tmp_path), '--document', str(page)])
    tool.main()
    assert called == ['detection_static_seed1']
    monkeypatch.undo()
    records = tool.Records(tmp_path / 'page')
    first, second = (tool.Experiment('detection', 0.5, seed=seed) for seed in (0, 1))
    with pytest.raises(ValueError, match='detection_static_seed1 is missing; run it first'):
        tool.run(second, tmp_path, records, None)
    with pytest.raises(ValueError, match=r'last.pth is missing; remove .*static_seed0.json to'):
        tool.run(first, tmp_path, records, None)


def test_testing_again_renews_records_and_trains_nothing(tool, experiments, tmp_path, monkeypatch):
    page, dynamic = tmp_path / 'page.md', [e for e in experiments if e.target is not None]
    finish(tool, experiments[0], tmp_path / 'page', 0.4)
    finish(tool, dynamic[0], tmp_path / 'page', 0.3)
    records = tool.Records(tmp_path / 'page')
    before = records.get(dynamic[0])
    folder = tmp_path / dynamic[0].name
    folder.mkdir()
    argv = ['run', '--tasks', 'detection', '--seeds', '0', '1', '--test-again']
    monkeypatch.setattr('sys.argv', [*argv, '--out', str(tmp_path), '--document', str(page)])
    with pytest.raises(ValueError, match='config.py is missing; remove the record of detection_'):
        tool.main()
    for name in ('config.py', 'last.pth'):
        (folder / name).touch()
    called = []

    def run_tool(name, *argv):
        called.append(name)
        report = {**before.record, 'metrics': {'coco/bbox_mAP': 0.31}, 'measured': {'ratio': 0.6}}
        (folder / 'latency_report.json').write_text(json.dumps(report))

    monkeypatch.setattr(tool, 'tool', run_tool)
    tool.main()
    after = records.get(dynamic[0])
    assert called == ['test.py'] and after.record['measured']['ratio'] == 0.6
    assert after.accuracy == 0.31 and len(records.all(experiments)) == 2
