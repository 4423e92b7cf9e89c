"""The GPU benchmark without a GPU: its code runs, and it invents no numbers."""

import json
import subprocess
import sys

import pytest
import torch

pytest.importorskip('triton', reason='Triton is not installed')


def run(repo_root, *arguments, tool='benchmark_cuda.py'):
    command = [sys.executable, str(repo_root / 'tools' / 'benchmarks' / tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=repo_root)


def test_dry_run_reports_no_times(repo_root, tmp_path):
    out = tmp_path / 'results.json'
    suites = ['check', 'ceilings', 'ablation', 'kernels', 'tokens', 'predictor', 'compiled']
    suites.append('sanitizer')
    done = run(repo_root, '--dry-run', '--suite', *suites, '--out', out)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert results['machine']['dry_run'] is True
    assert all(row['checks'] > 0 and row['failures'] == [] for row in results['check'])
    [ceilings] = results['ceilings']
    assert ceilings.pop('case') == 'device' and set(ceilings.values()) == {None}
    [row] = results['ablation']
    assert set(row['us'].values()) == {None} and row['gain'] is None
    numbers = ('us', 'TB_per_s', 'TFLOP_per_s', 'of_bandwidth', 'of_flops')
    assert results['kernels'] and all(row[n] is None for row in results['kernels'] for n in numbers)
    checked = [row for row in results['tokens'] if 'checks' in row]
    assert checked and all(row['checks'] > 0 and row['failures'] == [] for row in checked)
    timed = [row for row in results['tokens'] if 'ms' in row]
    assert [row['macs'] < 1 for row in timed] == [True] * 4 + [False]
    assert all({*row['ms'].values(), row['ratio']} == {None} for row in timed)
    assert results['predictor'] == results['compiled'] == results['sanitizer'] == []
    assert [path.name for path in tmp_path.iterdir()] == ['results.json']


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_says_so(repo_root, tmp_path):
    done = run(repo_root, '--out', tmp_path / 'results.json')
    assert done.returncode == 2
    assert 'this machine or this PyTorch has no CUDA device; use --dry-run' in done.stderr
    assert not list(tmp_path.iterdir())


def test_one_command_for_every_device(repo_root, tmp_path):
    out = tmp_path / 'results.json'
    suites = ['--suite', 'predictor', '--out', out]
    done = run(repo_root, '--device', 'cuda', '--dry-run', *suites, tool='benchmark.py')
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())['predictor'] == []
