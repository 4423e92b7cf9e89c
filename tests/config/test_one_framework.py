"""las_mm with mmdet alone and with mmpretrain alone: it imports, trains, tests and reports."""

import json
import os
import subprocess
import sys

import pytest

LOSSES = {'loss_flops', 'loss_bounds', 'loss_kd'}
OTHER = {'mmdet': 'mmpretrain', 'mmpretrain': 'mmdet'}
# Nobody finds such a module, and importing it fails.
WITHOUT = (
    'import runpy, sys; sys.modules[sys.argv.pop(1)] = None; del sys.argv[0]; '
    'runpy.run_path(sys.argv[0], run_name="__main__")'
)


@pytest.fixture(scope='module')
def run_without(repo_root):
    """A function that runs a script as if a package were not installed."""

    def run_without(absent: str, script: str, *argv: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', WITHOUT, absent, script, *argv],
            capture_output=True,
            text=True,
            cwd=repo_root,
            env=dict(os.environ, PYTHONPATH=str(repo_root), OMP_NUM_THREADS='1'),
        )

    return run_without


@pytest.fixture(scope='module')
def outcome(run_without, demo_coco, demo_classes, tmp_path_factory):
    """A function: what ``one_framework.py`` printed for a framework, run once for each."""
    found: dict[str, dict] = {}

    def outcome(framework: str) -> dict:
        if framework not in found:
            data = demo_coco if framework == 'mmdet' else demo_classes
            work = tmp_path_factory.mktemp('one') / framework
            script = ('tests/one_framework.py', framework, str(data), str(work))
            done = run_without(OTHER[framework], *script)
            assert done.returncode == 0, done.stderr[-2000:]
            found[framework] = json.loads(done.stdout.splitlines()[-1])
        return found[framework]

    return outcome


@pytest.mark.parametrize(
    ('framework', 'blocks'),
    [
        ('mmdet', {'LASResNet': 8, 'LASRegNet': 22}),
        ('mmpretrain', {'LASResNet': 8, 'LASRegNet': 22, 'LASDenseNet': 58}),
    ],
)
def test_every_backbone_of_the_framework_runs(outcome, framework, blocks):
    assert outcome(framework)['blocks'] == blocks


@pytest.mark.parametrize(
    ('framework', 'losses', 'metric'),
    [
        ('mmdet', LOSSES | {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'}, 'coco'),
        ('mmpretrain', LOSSES, 'accuracy'),
    ],
)
def test_training_with_every_hook_and_a_test_with_its_report(outcome, framework, losses, metric):
    result = outcome(framework)
    assert result['iterations'] == 1
    assert set(result['losses']) == losses
    assert all(name.startswith(metric) for name in result['metrics']) and result['metrics']
    assert result['devices'] == ['v100', 'gtx1080', 'tx2']


@pytest.mark.parametrize(('framework', 'absent'), OTHER.items())
def test_what_the_absent_framework_would_do_is_refused_by_name(outcome, framework, absent):
    result = outcome(framework)
    assert absent not in result['versions'] and framework in result['versions']
    field, _, rest = result['refused'].partition(': ')
    assert field == 'model.backbone.type'
    assert f"'{absent}.LASResNet' is of {absent}, which is not installed; pip install" in rest


@pytest.mark.parametrize(
    ('absent', 'config'),
    [
        ('mmdet', 'configs/faster_rcnn_las_r50_4-4-2-1_demo.py'),
        ('mmpretrain', 'configs/las_r50_4-4-2-1_demo.py'),
    ],
)
def test_a_tool_says_in_one_line_what_to_install(run_without, absent, config):
    done = run_without(absent, 'tools/train.py', config)
    assert done.returncode == 2, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith('train.py: error: '))
    assert f'is of {absent}, which is not installed; pip install {absent}' in line
