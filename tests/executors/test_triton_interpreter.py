"""Run the checks beside this with Triton's interpreter, which needs no GPU.

In a process of their own: kernels are interpreted if TRITON_INTERPRET is set when they are
imported, and can then not be compiled in the same process.
"""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    'checks', ['check_blocks.py', 'check_backbones.py', 'check_channels.py', 'check_tokens.py']
)
def test_interpreted(checks, repo_root):
    pytest.importorskip('triton', reason='Triton is not installed')
    tests = repo_root / 'tests'
    environment = {
        **os.environ,
        'TRITON_INTERPRET': '1',
        'PYTHONPATH': os.pathsep.join([str(repo_root), str(tests)]),
    }
    command = [sys.executable, '-m', 'pytest', '-x', '-p', 'no:cacheprovider']
    done = subprocess.run(
        [*command, str(tests / 'executors' / 'triton_interpreted' / checks)],
        env=environment,
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
