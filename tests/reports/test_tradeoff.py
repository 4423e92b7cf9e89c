"""Accuracy over FLOPs and latency, from several reports."""

import json

import pytest

from las_mm.reports.tradeoff import plot_tradeoff, read_run


def write(folder, accuracy, dynamic, granularity='4-4-2-1', devices=('tx2', 'v100')):
    folder.mkdir()
    rows = [dict(device=d, static_ms=9.0, dynamic_ms=dynamic / 1e9) for d in devices]
    report = dict(
        granularity=granularity, flops=dict(static=9e9, dynamic=dynamic), devices=rows,
        metrics={'mAP': accuracy, 'mAP_50': accuracy + 0.2},
    )  # fmt: skip
    (folder / 'latency_report.json').write_text(json.dumps(report))
    return folder


@pytest.fixture
def folders(tmp_path):
    return [
        write(tmp_path / 'a', 0.30, 4e9),
        write(tmp_path / 'b', 0.25, 2e9),
        write(tmp_path / 'c', 0.28, 3e9, '1-1-1-1', devices=('tx2',)),
    ]


def test_curves_join_the_runs_of_a_label_in_order_of_cost(folders):
    figure = plot_tradeoff([read_run(folder) for folder in folders], static=0.32)
    flops, latency = figure.axes
    assert 'tx2' in latency.get_xlabel(), 'the only device that all runs have'
    curve, single, static = flops.lines
    assert curve.get_label() == 'S_net 4-4-2-1'
    assert curve.get_xydata().tolist() == [[2, 0.25], [4, 0.30]]
    assert single.get_xydata().tolist() == [[3, 0.28]]
    assert static.get_xydata().tolist() == [[9, 0.32]]
    assert latency.lines[2].get_xydata().tolist() == [[9, 0.32]]


def test_metric_and_label_are_a_choice(folders):
    run = read_run(folders[0] / 'latency_report.json', 'mAP_50', 'with KD')
    assert (run.label, run.accuracy) == ('with KD', pytest.approx(0.5))


def test_wrong_reports_are_named(folders, tmp_path):
    with pytest.raises(ValueError, match="metric: 'AP' is not in .*; it has mAP, mAP_50"):
        read_run(folders[0], 'AP')
    with pytest.raises(FileNotFoundError, match='tools/test.py writes it'):
        read_run(tmp_path / 'nowhere')
    (tmp_path / 'x.json').write_text('{"metrics": {"mAP": 1}}')
    with pytest.raises(ValueError, match='is no latency report'):
        read_run(tmp_path / 'x.json')


def test_tool_writes_the_figure(load_tool, folders, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'curve.svg'
    argv = ['plot', *map(str, folders[:2]), f'fine={folders[2]}', '--out', str(out)]
    monkeypatch.setattr('sys.argv', argv)
    load_tool('plot_tradeoff').main()
    assert '<svg' in out.read_text()
    assert '3 runs' in capsys.readouterr().out
