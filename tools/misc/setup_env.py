#!/usr/bin/env python3
"""Create the virtual environment that las_mm is tested in, or do nothing where it is complete.

Installs the pinned packages of requirements/ and builds mmcv's operators once into a cache
directory that all clones share. Interrupted, it goes on where it stopped. Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from setup_steps import SetupError, Steps, say

ROOT = Path(__file__).resolve().parents[2]
PYTHON = (3, 11)  # the version that requirements/constraints.txt was resolved for
STACKS = ('openmmlab', 'onedl')  # each has requirements/<stack>.txt, naming its mmcv to build
SHARED = ('build', 'torch', 'runtime', 'demo', 'tests', 'docs', 'constraints')
GIGABYTE = 10**9
DISK_FRESH, DISK_UPDATE = 8 * GIGABYTE, 1 * GIGABYTE  # the environment itself takes 5.4 GB
DISK_UNPACK = 3 * GIGABYTE  # where pip unpacks its downloads


def requirements(name: str) -> Path:
    """Return the path of ``requirements/<name>.txt``."""
    return ROOT / 'requirements' / f'{name}.txt'


def pinned(name: str, package: str) -> str:
    """Return the line of ``requirements/<name>.txt`` that pins ``package``: ``torch==2.11.0``."""
    for line in requirements(name).read_text().splitlines():
        if line.startswith(f'{package}=='):
            return line.strip()
    raise SetupError(f'requirements/{name}.txt does not pin {package}; restore the file')


def packages(name: str) -> set[str]:
    """Return the names of the packages that ``requirements/<name>.txt`` pins."""
    lines = requirements(name).read_text().splitlines()
    return {line.partition('==')[0] for line in lines if '==' in line}


def default_venv(stack: str) -> Path:
    """Return the directory that a stack is installed in where none is named."""
    return ROOT / ('.venv' if stack == STACKS[0] else f'.venv-{stack}')


def fingerprint(stack: str) -> str:
    """Return a hash of all that decides what the environment contains."""
    digest = hashlib.sha256(repr(PYTHON).encode())
    for name in (*SHARED, stack):
        digest.update(requirements(name).read_bytes())
    return digest.hexdigest()


def check_python(venv: Path) -> None:
    """Raise SetupError unless this interpreter, and one already in ``venv``, fit."""
    wanted = '.'.join(map(str, PYTHON))
    if sys.version_info[:2] != PYTHON:
        raise SetupError(
            f'Python {wanted} is needed, {sys.executable} is {sys.version.split()[0]}; '
            f'install python{wanted} or name one: make PYTHON=/path/to/python{wanted}'
        )
    config = venv / 'pyvenv.cfg'
    lines = config.read_text().splitlines() if config.is_file() else []
    for line in lines:
        key, _, version = (part.strip() for part in line.partition('='))
        if key == 'version' and not version.startswith(f'{wanted}.'):
            raise SetupError(f'{venv} has Python {version}, {wanted} is needed; remove {venv}')


def check_stack(venv: Path, stack: str) -> None:
    """Raise SetupError if ``venv`` has packages of another stack: they own the same folders."""
    for other in set(STACKS) - {stack}:
        for package in packages(other) - packages(stack):
            if any(venv.glob(f'lib/python*/site-packages/{package.replace("-", "_")}-*.dist-info')):
                raise SetupError(
                    f'{venv} has {package} of the stack {other}, which {stack} would overwrite; '
                    f'remove {venv}, or name another: VENV=.venv-{stack}'
                )


def check_disk(venv: Path) -> None:
    """Raise SetupError unless the environment and pip's unpacking fit on their disks."""
    installed = any(venv.glob('lib/python*/site-packages/torch/version.py'))
    needs = {venv.parent: DISK_UPDATE if installed else DISK_FRESH}
    if not installed:
        needs[Path(tempfile.gettempdir())] = DISK_UNPACK
    for place, need in needs.items():
        free = shutil.disk_usage(place).free
        if free < need:
            raise SetupError(
                f'{need / GIGABYTE:.0f} GB of disk space are needed in {place}, '
                f'{free / GIGABYTE:.1f} GB are free; make room, or set VENV or TMPDIR elsewhere'
            )


def check_compiler() -> None:
    """Raise SetupError unless C++ extensions of this Python can be compiled."""
    for variable, default, package in (('CC', 'gcc', 'gcc'), ('CXX', 'g++', 'g++')):
        command = os.environ.get(variable, default).split()[0]
        if shutil.which(command) is None:
            raise SetupError(
                f'no compiler: {command} was not found, and mmcv has to be built once; '
                f'install it (Debian, Ubuntu: apt-get install {package}) and run again'
            )
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        raise SetupError(
            f'no Python headers: {sysconfig.get_path("include")}/Python.h was not found; install '
            f'them (Debian, Ubuntu: apt-get install python{PYTHON[0]}.{PYTHON[1]}-dev)'
        )


def has_operators(wheel: Path) -> bool:
    """Tell whether a wheel holds mmcv's compiled operators; a build without torch has none."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return any(name.startswith('mmcv/_ext') for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def wheel_cache() -> Path:
    """Return the directory of the wheels built for this Python and torch."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    torch = pinned('torch', 'torch').replace('==', '')
    cuda = '-cuda' if os.environ.get('FORCE_CUDA') == '1' else ''
    return Path(base, 'las_mm', 'wheels', f'cp{PYTHON[0]}{PYTHON[1]}-{torch}{cuda}')


def cached_wheel(requirement: str) -> Path | None:
    """Return the cached wheel of ``name==version`` that has operators, if there is one."""
    name, version = requirement.split('==')
    wheels = wheel_cache().glob(f'{name.replace("-", "_")}-{version}-*.whl')
    return next(filter(has_operators, wheels), None)


def create_venv(venv: Path) -> Path:
    """Create ``venv`` where it is missing or unusable; return its interpreter."""
    python = venv / 'bin' / 'python'
    works = (
        python.exists()
        and not subprocess.run([python, '-m', 'pip', '--version'], capture_output=True).returncode
    )
    if not works:
        say(f'creating {venv}')
        made = subprocess.run([sys.executable, '-m', 'venv', venv], capture_output=True, text=True)
        if made.returncode:
            raise SetupError(
                f'cannot create {venv}: {" ".join((made.stdout + made.stderr).split())[:200]} '
                f'(Debian, Ubuntu: apt-get install python{PYTHON[0]}.{PYTHON[1]}-venv)'
            )
    return python


def forget_half_installed(venv: Path) -> None:
    """Remove the records of packages whose installation was cut off, so that pip redoes them.

    pip writes a package's INSTALLER and RECORD after its files, but takes it as installed from
    its METADATA on.
    """
    for info in venv.glob('lib/python*/site-packages/*.dist-info'):
        if not ((info / 'INSTALLER').is_file() and (info / 'RECORD').is_file()):
            shutil.rmtree(info)


def build_wheel(steps: Steps, python: Path, requirement: str) -> Path:
    """Return the wheel of mmcv with operators, built where the cache does not have it.

    The operators are for the CPU, or for CUDA too with FORCE_CUDA=1 in the environment.
    """
    wheel = cached_wheel(requirement)
    if wheel is not None:
        steps.total -= 1
        return wheel
    cache = wheel_cache()
    cache.mkdir(parents=True, exist_ok=True)
    env = {
        'MMCV_WITH_OPS': '1',
        'FORCE_CUDA': os.environ.get('FORCE_CUDA', '0'),
        'MAX_JOBS': os.environ.get('MAX_JOBS', str(os.cpu_count() or 1)),
        'CFLAGS': f'{os.environ.get("CFLAGS", "")} -g0'.strip(),  # halves the time, 2 not 33 MB
        'PATH': f'{python.parent}{os.pathsep}{os.environ["PATH"]}',  # finds ninja
    }
    if env['FORCE_CUDA'] != '1':
        env['CUDA_VISIBLE_DEVICES'] = ''  # mmcv would want nvcc wherever it sees a GPU
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        options = ['--no-build-isolation', '--no-deps', '--no-cache-dir', '-v', '-w', scratch]
        title = f'build {requirement}, once for all clones (5 to 10 minutes)'
        steps.run(title, [python, '-m', 'pip', 'wheel', *options, requirement], env)
        built = next(Path(scratch).glob('*.whl'))
        if not has_operators(built):
            raise SetupError(f'{requirement} was built without operators; see {steps.log}')
        os.replace(built, cache / built.name)
    return cache / built.name


def install(venv: Path, stack: str) -> None:
    """Bring ``venv`` to the state that requirements/ describes."""
    mmcv = next(
        line.strip() for line in requirements(stack).read_text().splitlines() if 'mmcv==' in line
    )
    if cached_wheel(mmcv) is None:
        check_compiler()
    check_disk(venv)
    python = create_venv(venv)
    forget_half_installed(venv)
    steps = Steps(venv / 'setup.log', total=5)
    pip = [python, '-m', 'pip', 'install', '--no-input', '--progress-bar', 'off']
    pip += ['-c', requirements('constraints')]
    steps.run('install build tools', [*pip, '-r', requirements('build')])
    steps.run('install torch (about 4 GB)', [*pip, '-r', requirements('torch')])
    wheel = build_wheel(steps, python, mmcv)
    # All files at once, so that pip keeps every pin while it resolves the others.
    files = [part for name in (*SHARED[:-1], stack) for part in ('-r', requirements(name))]
    steps.run(f'install {stack}', [*pip, wheel, *files])
    check = 'import torch, torchvision, mmcv.ops, mmdet, mmpretrain'
    steps.run('check that everything imports', [python, '-c', check])


@contextlib.contextmanager
def lock(venv: Path):
    """Hold ``venv`` against a second set-up at the same time."""
    venv.mkdir(parents=True, exist_ok=True)
    with (venv / 'setup.lock').open('w') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'another set-up of {venv} is running, waiting for it')
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog='setup_env', description=__doc__)
    parser.add_argument('--stack', choices=STACKS, default=STACKS[0], help='default: %(default)s')
    parser.add_argument('--venv', type=Path, help='default: .venv, .venv-onedl for that stack')
    args = parser.parse_args(argv)
    venv = (args.venv or default_venv(args.stack)).absolute()
    stamp = venv / 'las_mm_setup'
    try:
        check_python(venv)
        check_stack(venv, args.stack)
        wanted = fingerprint(args.stack)
        if stamp.is_file() and stamp.read_text() == wanted:
            return 0
        with lock(venv):
            if not (stamp.is_file() and stamp.read_text() == wanted):
                install(venv, args.stack)
                stamp.write_text(wanted)
        say(f'{venv} is ready')
        return 0
    except (SetupError, OSError) as error:
        print(f'setup_env: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nsetup_env: interrupted; run again to go on from here', file=sys.stderr)
        return 130


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the running step, too
    sys.exit(main())
