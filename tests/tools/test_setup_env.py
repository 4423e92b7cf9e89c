"""The set-up says in one line what is missing, redoes what was cut off, and else does nothing."""

import contextlib
import os
import re
import subprocess
import sys
import time
import zipfile
from types import SimpleNamespace

import pytest

SHARED = ('build', 'torch', 'runtime', 'demo', 'tests', 'docs', 'constraints')
STACKS = ('openmmlab', 'onedl')


@pytest.fixture
def tool(load_tool, monkeypatch, tmp_path):
    module = load_tool('setup_env')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(module, 'PYTHON', sys.version_info[:2])
    return module


def make_wheel(tool, *names: str):
    folder = tool.wheel_cache()
    folder.mkdir(parents=True)
    path = folder / 'mmcv-2.1.0-cp311-cp311-linux_x86_64.whl'
    with zipfile.ZipFile(path, 'w') as archive:
        for name in names:
            archive.writestr(name, '')
    return path


def error_of(tool, capsys, venv) -> str:
    assert tool.main(['--venv', str(venv)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('setup_env: error: ')
    assert error.count('\n') == 1
    return error


def test_another_python_is_named_with_the_one_needed(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool, 'PYTHON', (3, 7))
    error = error_of(tool, capsys, tmp_path / 'venv')
    assert 'Python 3.7 is needed' in error
    assert sys.executable in error
    assert not (tmp_path / 'venv').exists()


def test_an_environment_of_another_python_is_not_touched(tool, tmp_path, capsys):
    (tmp_path / 'pyvenv.cfg').write_text('home = /usr/bin\nversion = 3.8.1\n')
    error = error_of(tool, capsys, tmp_path)
    assert '3.8.1' in error and f'remove {tmp_path}' in error


@pytest.mark.parametrize('variable', ['CC', 'CXX'])
def test_a_missing_compiler_is_named_before_anything_is_installed(
    tool, tmp_path, capsys, monkeypatch, variable
):
    monkeypatch.setenv('CC', sys.executable)  # stands for any command that exists
    monkeypatch.setenv('CXX', sys.executable)
    monkeypatch.setenv(variable, 'no-such-compiler')
    error = error_of(tool, capsys, tmp_path / 'venv')
    assert 'no compiler: no-such-compiler' in error and 'apt-get install' in error
    assert not (tmp_path / 'venv' / 'bin').exists()


def test_no_compiler_is_needed_where_the_wheel_is_cached(tool, tmp_path, capsys, monkeypatch):
    make_wheel(tool, 'mmcv/_ext.cpython-311-x86_64-linux-gnu.so')
    monkeypatch.setenv('CXX', 'no-such-compiler')
    monkeypatch.setattr(tool.shutil, 'disk_usage', lambda place: SimpleNamespace(free=10**6))
    assert 'disk space' in error_of(tool, capsys, tmp_path / 'venv')  # the next thing checked


def test_too_little_disk_says_how_much_is_needed_and_where(tool, tmp_path, capsys, monkeypatch):
    make_wheel(tool, 'mmcv/_ext.cpython-311-x86_64-linux-gnu.so')
    monkeypatch.setattr(tool.shutil, 'disk_usage', lambda place: SimpleNamespace(free=2.5e9))
    error = error_of(tool, capsys, tmp_path / 'venv')
    assert f'GB of disk space are needed in {tmp_path}, 2.5 GB are free' in error
    assert not (tmp_path / 'venv' / 'bin').exists()


def test_a_wheel_without_operators_or_cut_off_is_not_taken_from_the_cache(tool):
    path = make_wheel(tool, 'mmcv/__init__.py')
    assert tool.cached_wheel('mmcv==2.1.0') is None
    path.write_bytes(b'half a wheel')
    assert tool.cached_wheel('mmcv==2.1.0') is None
    path.unlink()
    path.parent.rmdir()
    path = make_wheel(tool, 'mmcv/_ext.cpython-311-x86_64-linux-gnu.so')
    assert tool.cached_wheel('mmcv==2.1.0') == path
    assert tool.cached_wheel('mmcv==2.2.0') is None


def test_the_cache_is_kept_apart_by_python_torch_and_cuda(tool, monkeypatch):
    assert tool.wheel_cache().name == f'cp{sys.version_info[0]}{sys.version_info[1]}-torch2.11.0'
    monkeypatch.setenv('FORCE_CUDA', '1')
    assert tool.wheel_cache().name.endswith('-torch2.11.0-cuda')


def test_the_stacks_wheels_lie_side_by_side(tool):
    wheel = make_wheel(tool, 'mmcv/_ext.cpython-311-x86_64-linux-gnu.so')
    fork = wheel.with_name('onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl')
    fork.write_bytes(wheel.read_bytes())
    assert tool.cached_wheel('mmcv==2.1.0') == wheel
    assert tool.cached_wheel('onedl-mmcv==2.3.6') == fork
    assert tool.cached_wheel('mmcv==2.3.6') is None


@pytest.mark.parametrize(('stack', 'venv'), [('openmmlab', '.venv'), ('onedl', '.venv-onedl')])
def test_each_stack_has_an_environment_of_its_own(tool, monkeypatch, repo_root, stack, venv):
    installed = []
    monkeypatch.setattr(tool, 'ROOT', repo_root / 'nowhere')
    monkeypatch.setattr(tool, 'requirements', lambda name: repo_root / f'requirements/{name}.txt')
    monkeypatch.setattr(tool, 'lock', lambda venv: contextlib.nullcontext())
    monkeypatch.setattr(tool, 'install', lambda *what: installed.append(what))
    tool.main(['--stack', stack])
    assert installed == [(repo_root / 'nowhere' / venv, stack)]
    command = ['make', '-C', str(repo_root), '--dry-run', 'setup', f'STACK={stack}']
    env = {key: value for key, value in os.environ.items() if key not in ('MAKEFLAGS', 'VENV')}
    shown = subprocess.run(command, capture_output=True, text=True, env=env).stdout
    assert f'--stack {stack} --venv "{venv}"' in shown


@pytest.mark.parametrize(
    ('stack', 'other', 'package'),
    [('openmmlab', 'onedl', 'onedl-mmcv'), ('onedl', 'openmmlab', 'mmcv')],
)
def test_two_stacks_in_one_environment_are_refused(tool, tmp_path, capsys, stack, other, package):
    site = tmp_path / 'lib' / 'python3.11' / 'site-packages'
    (site / f'{package.replace("-", "_")}-2.dist-info').mkdir(parents=True)
    assert tool.main(['--stack', stack, '--venv', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert f'has {package} of the stack {other}' in error and f'remove {tmp_path}' in error


def test_a_failing_step_shows_its_output_and_where_the_rest_is(tool, tmp_path, capsys):
    steps = tool.Steps(tmp_path / 'log', total=1)
    code = 'import sys; print("WARNING: noise"); print("no such package"); sys.exit(3)'
    with pytest.raises(tool.SetupError, match=r'"install x" failed with exit status 3') as failure:
        steps.run('install x', [sys.executable, '-c', code])
    assert str(tmp_path / 'log') in str(failure.value)
    shown = capsys.readouterr().out
    assert 'no such package' in shown and 'noise' not in shown


def test_a_long_step_shows_its_last_line_while_it_runs(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('setup_steps.HEARTBEAT', 0.2)
    code = 'import time; print("compiling 7 of 9", flush=True); time.sleep(1.5)'
    tool.Steps(tmp_path / 'log', total=1).run('build', [sys.executable, '-c', code])
    shown = capsys.readouterr().out
    assert 'compiling 7 of 9' in shown
    assert '[1/1] build: done in' in shown


def test_a_package_cut_off_while_installing_is_installed_again(tool, tmp_path):
    site = tmp_path / 'lib' / 'python3.11' / 'site-packages'
    for name, files in (
        ('whole-1.0.dist-info', ('METADATA', 'INSTALLER', 'RECORD')),
        ('half-1.0.dist-info', ('METADATA',)),
        ('almost-1.0.dist-info', ('METADATA', 'INSTALLER')),
    ):
        (site / name).mkdir(parents=True)
        for file in files:
            (site / name / file).write_text('')
    tool.forget_half_installed(tmp_path)
    assert [path.name for path in site.iterdir()] == ['whole-1.0.dist-info']


def test_a_complete_environment_is_left_alone(tool, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise AssertionError('installs although the environment is complete')

    (tmp_path / 'las_mm_setup').write_text(tool.fingerprint('openmmlab'))
    monkeypatch.setattr(tool, 'install', refuse)
    assert tool.main(['--venv', str(tmp_path)]) == 0
    assert capsys.readouterr().out == ''


def test_an_environment_is_stamped_only_when_it_is_complete(tool, tmp_path, capsys, monkeypatch):
    runs = []

    def fail_once(venv, stack):
        runs.append(stack)
        if len(runs) == 1:
            raise tool.SetupError('the network is gone')

    monkeypatch.setattr(tool, 'install', fail_once)
    assert tool.main(['--venv', str(tmp_path)]) == 2
    assert tool.main(['--venv', str(tmp_path)]) == 0
    assert tool.main(['--venv', str(tmp_path)]) == 0
    assert len(runs) == 2


def test_a_changed_requirement_sets_up_again(tool, tmp_path, monkeypatch):
    for name in (*SHARED, 'openmmlab'):
        text = tool.requirements(name).read_text()
        (tmp_path / f'{name}.txt').write_text(text)
    monkeypatch.setattr(tool, 'requirements', lambda name: tmp_path / f'{name}.txt')
    before = tool.fingerprint('openmmlab')
    (tmp_path / 'tests.txt').write_text('pytest==9.0.0\n')
    assert tool.fingerprint('openmmlab') != before


def test_a_second_set_up_waits_for_the_first(tool, tmp_path):
    code = (
        'import sys, pathlib; sys.path.insert(0, sys.argv[1]); import setup_env\n'
        'with setup_env.lock(pathlib.Path(sys.argv[2])): print("in", flush=True)'
    )
    with tool.lock(tmp_path):
        command = [sys.executable, '-c', code, str(tool.ROOT / 'tools' / 'misc'), str(tmp_path)]
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert 'waiting' in other.stdout.readline()
        time.sleep(0.2)
        assert other.poll() is None
    assert other.communicate(timeout=30)[0] == 'in\n'


def test_the_tool_needs_nothing_but_the_standard_library(repo_root, tmp_path):
    command = [
        sys.executable,
        '-E',
        '-S',
        str(repo_root / 'tools' / 'misc' / 'setup_env.py'),
        '--help',
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={})
    assert done.returncode == 0
    assert '--stack' in done.stdout


@pytest.mark.parametrize('stack', STACKS)
def test_every_requirement_is_pinned_once(repo_root, stack):
    seen = set()
    for name in (*SHARED, stack):
        for line in (repo_root / 'requirements' / f'{name}.txt').read_text().splitlines():
            if line and not line.startswith('#'):
                match = re.fullmatch(r'([A-Za-z0-9_.-]+)==[0-9][\w.]*', line)
                assert match, f'{name}.txt: {line}'
                package = match[1].lower().replace('_', '-')
                assert package not in seen, f'{package} is pinned twice'
                seen.add(package)


def test_make_says_what_to_do_without_python(repo_root, tmp_path):
    command = ['make', '-C', str(repo_root), 'setup', 'PYTHON=', f'VENV={tmp_path / "venv"}']
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 2
    assert 'no python3.11' in done.stderr
    assert not (tmp_path / 'venv').exists()
