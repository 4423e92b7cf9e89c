"""The shell launchers: two processes train and test; Slurm is asked for what was meant."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

CONFIG = 'configs/las_r50_4-4-2-1_demo.py'


def call(repo_root, *argv, **variables):
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHON=sys.executable, **variables)
    command = ['bash', *map(str, argv)]
    return subprocess.run(command, cwd=repo_root, env=env, capture_output=True, text=True)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


@pytest.mark.skipif(not dist.is_gloo_available(), reason='torch was built without gloo')
def test_two_processes_train_and_test(repo_root, demo_classes, tmp_path):
    options = [
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=2',
        'train_dataloader.batch_size=5',
        'param_scheduler.0.end=1',
    ]
    for split in ('train', 'val', 'test'):
        options.append(f'{split}_dataloader.dataset.data_root={demo_classes}')
        options.append(f'{split}_dataloader.num_workers=0')
        options.append(f'{split}_dataloader.persistent_workers=False')
    work = ['--work-dir', tmp_path]
    done = call(repo_root, 'tools/dist_train.sh', CONFIG, 2, *work, *options, PORT=free_port())
    assert done.returncode == 0, done.stderr[-3000:]
    checkpoint = tmp_path / 'epoch_1.pth'
    argv = ['tools/dist_test.sh', CONFIG, checkpoint, 2, *work, *options]
    done = call(repo_root, *argv, PORT=free_port())
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / 'latency_report.json').read_text())
    assert report['images'] == 10


GROUP_IN_A_CYCLE = """
import sys
from pathlib import Path

import torch.distributed as dist
from torch import nn

from las_mm.cli import run_cli


def main():
    dist.init_process_group('gloo', f'file://{sys.argv[1]}', rank=0, world_size=1)
    runner = [nn.parallel.DistributedDataParallel(nn.Linear(2, 2))]
    runner.append(runner)


run_cli(main)
print(*[name.read_text() for name in Path('/proc/self/task').glob('*/comm')])
"""


@pytest.mark.skipif(not dist.is_gloo_available(), reason='torch was built without gloo')
@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='no /proc to see threads in')
def test_no_thread_of_gloo_is_left_when_the_interpreter_ends(repo_root, tmp_path):
    command = [sys.executable, '-c', GROUP_IN_A_CYCLE, tmp_path / 'store']
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'python' in done.stdout and 'gloo' not in done.stdout


def test_slurm_gets_the_training_s_command(repo_root, tmp_path):
    fake = tmp_path / 'srun'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    argv = ['tools/slurm_train.sh', 'gpu', 'las', CONFIG, 'work dir', '--amp']
    variables = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='4', GPUS_PER_NODE='2')
    done = call(repo_root, *argv, SRUN_ARGS='--time=60 --exclusive', **variables)
    assert done.stdout.splitlines() == [
        '--partition=gpu',
        '--job-name=las',
        '--gres=gpu:2',
        '--ntasks=4',
        '--ntasks-per-node=2',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--time=60',
        '--exclusive',
        *[sys.executable, '-u', 'tools/train.py', CONFIG, '--work-dir', 'work dir'],
        *['--launcher', 'slurm', '--amp'],
    ]


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['tools/dist_train.sh', CONFIG], 'dist_train.sh: error: usage: CONFIG PROCESSES [options'),
        (['tools/dist_test.sh', CONFIG, 'x.pth'], 'usage: CONFIG CHECKPOINT PROCESSES'),
        (['tools/slurm_train.sh', 'gpu'], 'usage: PARTITION JOB_NAME CONFIG WORK_DIR'),
        (['tools/dist_train.sh', CONFIG, 'two'], "PROCESSES: got 'two'; it must be an integer"),
    ],
)
def test_wrong_calls_are_one_line(repo_root, argv, message):
    done = call(repo_root, *argv)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count('\n') == 1
