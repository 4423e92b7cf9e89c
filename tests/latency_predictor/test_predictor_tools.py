"""The predictor's tools: calibration of this machine, validation, benchmark."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from latency_predictor import LatencyModel, load_device, resnet

ROOT = Path(__file__).resolve().parents[2]


def run(tool, *arguments):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run(
        [sys.executable, str(next((ROOT / 'tools').rglob(tool))), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


def test_calibration_writes_a_device_that_predicts(tmp_path):
    path = tmp_path / 'mine.yaml'
    done = run(
        'calibrate.py',
        '--name',
        'mine',
        '--seconds',
        '0',
        '--precisions',
        'fp32',
        '--output',
        str(path),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    device = load_device(path)
    assert device.name == 'mine' and device.processing_engines == 1
    assert 0.1 < device.macs_per_second() / 1e9 < 10000
    assert LatencyModel(device).network(resnet(18, 64, '2-2-1-1'), 0.5).ratio > 0
    assert [p.name for p in tmp_path.iterdir()] == ['mine.yaml']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--threads', '0', '--output', 'x.yaml'], '--threads is 0: allowed is 1 to'),
        (['--output', 'x.txt'], "--output is 'x.txt': it must end in .yaml"),
        (['--output', 'no/such/x.yaml'], "folder of --output 'no/such/x.yaml' does not exist"),
        (['--precisions', 'fp8', '--output', 'x.yaml'], "--precisions is 'fp8'"),
    ],
)
def test_calibration_refuses_bad_input_in_one_line(arguments, message, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    monkeypatch.setattr(sys, 'argv', ['calibrate.py', *arguments])
    calibrate = importlib.import_module('calibrate')
    assert calibrate.main() == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


def test_validation_without_measurements(tmp_path):
    path = tmp_path / 'VALIDATION.md'
    done = run('validate_predictor.py', '--skip-cpu', '--output', str(path))
    assert done.returncode == 0, done.stderr[-2000:]
    text = path.read_text()
    for heading in ('## Table 1', '### Table 2', '### Table 3', '## The statements of Section 4.2'):
        assert heading in text
    assert 'Not measured in this run' in text and 'Goal static <= 2 %: met' in text


def test_benchmark_prints_its_four_figures():
    done = run('benchmark_predictor.py')
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'one network' in done.stdout and 'sweep' in done.stdout and 'x faster' in done.stdout


def test_on_a_gpu_a_run_is_timed_within_a_graph_of_many(load_tool, monkeypatch):
    measure = load_tool('timer')
    captured, replayed = [], []

    class Graph:
        def replay(self):
            replayed.append(self)

    def capture(function, repeats):
        captured.append((function, repeats))
        return Graph(), None

    class Event:
        def __init__(self, enable_timing):
            pass

        def record(self):
            pass

        def elapsed_time(self, other):
            return 5.0  # milliseconds

    monkeypatch.setattr(measure, 'capture', capture)
    monkeypatch.setattr(measure.torch.cuda, 'Event', Event)
    monkeypatch.setattr(measure.torch.cuda, 'synchronize', lambda: None)
    timer = measure.Timer('cuda')

    def function():
        pass

    assert [timer.once(function) for _ in range(3)] == [pytest.approx(5e-4)] * 3
    assert captured == [(function, 10)] and len(replayed) == 3
