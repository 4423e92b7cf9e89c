"""What the suites of the GPU benchmark do with numbers and with failures; needs no GPU."""

import json
import os
import time
from types import SimpleNamespace

import pytest
import torch
from random_blocks import randomize
from torch.nn.functional import conv2d

from las_mm.executors.triton.options import Options
from las_mm.layers import DynamicBottleneck

pytest.importorskip('triton', reason='Triton is not installed')

from las_mm.executors.triton.plan import Plan, Stage


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('benchmark_cuda')


@pytest.fixture
def run(tool, tmp_path, monkeypatch):
    """Run suites made of tasks on a machine that says it is no dry run; what they found."""

    def run(suites, seconds=60.0, earlier=None):
        found = {name: tool.Suite(lambda machine, results, tasks=tasks: tasks, reserve)
                 for name, (tasks, reserve) in suites.items()}  # fmt: skip
        monkeypatch.setattr(tool, 'SUITES', found)
        path = tmp_path / 'results.json'
        machine = tool.Machine(torch.device('cuda'), time.monotonic() + seconds, tmp_path)
        if earlier is not None:
            path.write_text(json.dumps(earlier))
        record = tool.Record(path, {'device': 'a GPU'})
        tool.run_suites(machine, list(suites), record)
        return json.loads(path.read_text())

    return run


def test_a_failing_task_costs_no_other(tool, run):
    def fail():
        yield {'ms': 1.0}
        raise AttributeError('of something')

    suite = [tool.Task('bad', 0, fail), tool.Task('good', 0, lambda: [{'ms': 2.0}])]
    assert run({'check': (suite, 0)})['check'] == [
        {'case': 'bad', 'ms': 1.0},
        {'case': 'bad', 'failed': 'AttributeError: of something'},
        {'case': 'good', 'ms': 2.0},
    ]


def test_rows_are_in_the_file_before_the_next_one_is_measured(tool, run, tmp_path):
    seen = []

    def two():
        yield {'ms': 1.0}
        seen.append(json.loads((tmp_path / 'results.json').read_text())['check'])
        yield {'ms': 2.0}

    run({'check': ([tool.Task('a', 0, two)], 0)})
    assert seen == [[{'case': 'a', 'ms': 1.0}]]
    assert [path.name for path in tmp_path.iterdir()] == ['results.json']


def test_what_there_is_no_time_for_says_so(tool, run):
    def forever():
        yield {'ms': 1.0}
        while True:
            time.sleep(0.01)

    suite = [tool.Task('long', 0, forever), tool.Task('later', 0, lambda: [{'ms': 2.0}])]
    assert run({'check': (suite, 0)}, seconds=0.5)['check'] == [
        {'case': 'long', 'ms': 1.0},
        {'case': 'long', 'left_out': 'the time ended while it ran'},
        {'case': 'later', 'left_out': 'no time was left'},
    ]


def test_time_is_kept_free_for_later_suites(tool, run):
    task = tool.Task('a', 10, lambda: [{'ms': 1.0}])
    found = run({'check': ([task], 0), 'kernels': ([task], 55)}, seconds=60)
    assert found['check'] == [{'case': 'a', 'left_out': 'no time was left'}]
    assert found['kernels'] == [{'case': 'a', 'ms': 1.0}]


@pytest.mark.parametrize('device', ['a GPU', 'another one'])
def test_suites_of_an_earlier_run_on_the_same_machine_are_kept(tool, run, device):
    earlier = {'machine': {'device': device}, 'check': [{'old': 1}], 'kernels': [{'old': 2}]}
    suites = {'check': ([tool.Task('a', 0, lambda: [{'ms': 1.0}])], 0), 'kernels': ([], 0)}
    found = run({'check': suites['check']}, earlier=earlier)
    assert found['check'] == [{'case': 'a', 'ms': 1.0}]
    found = run(suites | {'kernels': ([], 0)}, earlier=earlier)
    assert found['kernels'] == []


def test_torch_compile_counts_where_it_is_the_fastest(tool):
    times = {'static, cuDNN': 2.0, 'dynamic': 1.0, 'dynamic, PDL': None}
    row = {'case': 'a', 'ms': times, 'ratio': 0.5}
    results = {'networks': [row, {'case': 'b', 'left_out': 'no time was left'}],
               'compiled': [{'case': 'a', 'ms': 1.25}, {'case': 'b', 'failed': 'so'}]}  # fmt: skip
    tool.compiled.add_to(results)
    assert results['networks'][0]['ratio'] == 0.8
    assert results['networks'][0]['ms']['static, torch.compile'] == 1.25


def test_errors_of_predictions_and_shares_of_ceilings(tool):
    rows = [dict.fromkeys(('static', 'dynamic', 'ratio'), pair) for pair in ((1, 2), (3, 2))]
    assert tool.predictor.mape(rows) == {'static': 50, 'dynamic': 50, 'ratio': 50}
    row = {'TB_per_s': 2.0, 'TFLOP_per_s': 50.0}
    ceilings = {'copy_TB_per_s': 4.0, 'tf32_TFLOP_per_s': 300.0, 'fp16_TFLOP_per_s': 500.0}
    share = tool.kernels.share_of_ceilings
    assert share(row, ceilings, 'fp32') == {'of_bandwidth': 0.5, 'of_flops': 0.5}
    assert share(row, ceilings, 'fp16') == {'of_bandwidth': 0.5, 'of_flops': 0.1}
    assert share(row, {}, 'fp16') == {'of_bandwidth': None, 'of_flops': None}


def test_every_block_is_predicted_and_measured(tool, monkeypatch, tmp_path):
    suite, replaced = tool.predictor, []
    monkeypatch.setattr(suite, 'graphed', lambda machine, run, repeats: run())
    monkeypatch.setattr(suite, 'measure', lambda machine, runs: dict.fromkeys(runs, 0.5))
    monkeypatch.setattr(
        suite, 'run_block', lambda packed, x, options, in_place, decided: replaced.append(decided)
    )
    machine, rows = suite.Machine(torch.device('cpu'), time.monotonic() + 60, tmp_path), []
    monkeypatch.setattr(suite.Machine, 'dry', False)
    found = list(suite._compare(machine, 'v100', 'fp32', 1, 32, rows))
    assert found == rows and len(rows) == len(suite.STAGES) * len(suite.RATES)
    for row in rows:
        assert row['dynamic'][0] > 0 and row['static'][1] == row['dynamic'][1] == 50
    assert json.loads(json.dumps(rows)) == rows
    assert [row['block'] for row in rows[:: len(suite.RATES)]] == [
        f'layer{stage}.1' for stage in range(1, 5)
    ]
    assert [mask.mean() for mask in replaced[:4]] == pytest.approx(suite.RATES, abs=0.1)


class FakeRunner:
    """Stands for a captured backbone; every stage was planned to be incremental."""

    def __init__(self, backbone, images, options=None, plan=None):
        times = {'fused': 3.0, 'separate': 2.0, 'incremental': 1.0}
        stages = [Stage(tuple(b), 'incremental', times=times)
                  for b in backbone.dynamic_stages.values()]  # fmt: skip
        self.backbone, self.plan = backbone, plan or Plan(tuple(stages), options)


@pytest.mark.parametrize('batch', [1, 2])
def test_variants_of_a_network_share_one_plan(tool, monkeypatch, tmp_path, batch):
    suite = tool.networks
    monkeypatch.setattr(suite, 'GraphedBackbone', FakeRunner)
    machine = suite.Machine(torch.device('cpu'), 0.0, tmp_path)
    backbone = suite.make_backbone(machine, 'fp32')
    monkeypatch.setattr(suite.Machine, 'dry', False)
    found = suite._dynamic_variants(machine, backbone, torch.rand(batch, 3, 64, 64), 'tf32')
    modes = {name: {stage.mode for stage in run.plan.stages} for name, run in found.items()}
    expected = {'dynamic': {'incremental'}, 'dynamic, not incremental': {'separate'}}
    assert modes == expected | ({'dynamic, PDL': {'incremental'}} if batch == 1 else {})
    for name, run in found.items():
        assert run.plan.options == Options(float32='tf32', pdl=name == 'dynamic, PDL')
        blocks = [block for stage in run.plan.stages for block in stage.blocks]
        assert blocks == run.backbone.blocks


def test_what_is_compiled_ahead(tool, monkeypatch):
    seen = []
    monkeypatch.setattr(tool.compiling, 'compile_block', lambda *arguments: seen.append(arguments))
    for number in range(tool.compiling.BLOCKS):
        tool.compiling.compile_part(('tf32', 2, number))
    for (block, x, options, decided), shortcut in zip(seen, (True, False), strict=True):
        assert (block.downsample is not None) == shortcut and block.conv2.in_channels == 256
        assert x.dtype == torch.float32 and options.float32 == 'tf32' and decided is not None


def test_mean_duration_of_each_kernel(tool):
    def event(name, start, end, device='CUDA'):
        length = SimpleNamespace(start=start, elapsed_us=lambda: end - start)
        return SimpleNamespace(
            name=name, time_range=length, device_type=SimpleNamespace(name=device)
        )

    events = [event('void at::native::fill<int>()', 0, 9), event('index', 0, 9, 'CPU')]
    for start in range(0, 100 * tool.kernels.ROUNDS, 100):  # a round: index, 1×1, 3×3
        events += [event('gather_conv', start + 60, start + 90), event('index', start, start + 2)]
        events += [event('gather_conv', start + 10, start + 20)]
    assert tool.kernels.mean_durations(events) == {
        'index': 2.0, 'gather_conv 1x1': 10.0, 'gather_conv 3x3': 30.0
    }  # fmt: skip


def test_a_check_that_could_not_run_is_a_failure(tool):
    found = tool.check.check_blocks(torch.device('cpu'), None, 'fp32')
    assert found['checks'] == len(found['failures']) > 0
    assert all('not run: its input is on cpu' in line for line in found['failures'])


def test_a_check_that_raises_is_a_failure(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool.check, 'make_backbone', lambda *arguments, **options: 1 / 0)
    machine = tool.Machine(torch.device('cpu'), 0.0, tmp_path)
    [task] = tool.check.tasks(machine, {})
    row = next(iter(task.run()))
    assert row['failures'] == ['ZeroDivisionError: division by zero']


@torch.no_grad()
@pytest.mark.parametrize('in_channels, stride', [(16, 1), (8, 2)])
def test_fused_static_block_is_the_static_block(tool, monkeypatch, in_channels, stride):
    def relu(x, weight, bias, *geometry):
        return conv2d(x, weight, bias, *geometry).relu()

    def add_relu(x, weight, z, alpha, bias, *geometry):
        return (conv2d(x, weight, bias, *geometry) + alpha * z).relu()

    monkeypatch.setattr(torch, 'cudnn_convolution_relu', relu, raising=False)
    monkeypatch.setattr(torch, 'cudnn_convolution_add_relu', add_relu, raising=False)
    block = randomize(DynamicBottleneck(in_channels, 8, 16, 2, stride))
    del block.masker
    x = torch.randn(1, in_channels, 9, 8)
    fused = tool.networks.fuse_static.__globals__['FusedBlock'](block)
    torch.testing.assert_close(fused(x), block(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('code, failures', [(0, []), (9, ['ERROR SUMMARY: 1 error'])])
def test_what_the_sanitizer_says(tool, monkeypatch, tmp_path, code, failures):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert tool.sanitizer.sanitize('memcheck') == [{'left_out': 'compute-sanitizer is not in PATH'}]
    program = tmp_path / 'compute-sanitizer'
    program.write_text(f'#!/bin/sh\necho "ERROR SUMMARY: 1 error"\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin')
    [row] = tool.sanitizer.sanitize('memcheck')
    assert row == {'summary': ['ERROR SUMMARY: 1 error'], 'failures': failures}
