"""What the C++ extension is made of, and how it is compiled.

By the compiler alone: what PyTorch has for it needs ninja on PATH and setuptools, and links nothing
where a path has a space in it. setup.py runs this file by itself: it imports nothing of las_mm.
"""

import errno
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

# Held while a compiler is started, and by whoever forks.
_starting = threading.RLock()
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(
        before=_starting.acquire,
        after_in_parent=_starting.release,
        after_in_child=_starting.release,
    )

FOLDER = Path(__file__).parent / 'csrc'
NAME = '_native'
FLAGS = ['-O3', '-fopenmp', '-ffp-contract=fast', '-fvisibility=hidden', '-g0']
SANITIZER_FLAGS = [
    '-O1',
    '-g',
    '-fopenmp',
    '-fno-omit-frame-pointer',
    '-fsanitize=address,undefined',
]
OPERATORS = 'las_mm_operators'  # a library without Python, see operators.py
LIBRARIES = ['-lc10', '-ltorch_cpu', '-ltorch']
# The parts that are in one of the two libraries alone.
OF_PYTHON, OF_OPERATORS = ('bindings.cpp', 'watch.cpp'), ('operators.cpp',)
COMPILERS = ('c++', 'g++', 'clang++')
NO_ROOM = ('No space left on device', 'Disk quota exceeded')


def sources(name: str = NAME) -> list[str]:
    """Paths of the translation units of a library."""
    others = OF_OPERATORS if name == NAME else OF_PYTHON
    return sorted(str(path) for path in FOLDER.glob('*.cpp') if path.name not in others)


def sanitized() -> bool:
    """Whether to build for the sanitizers; the caller must preload their libraries."""
    return os.environ.get('LAS_MM_SANITIZE', '') not in ('', '0')


def build_key() -> str:
    """Changes with the sources, the flags, the machine, and Python's and PyTorch's builds."""
    torch_build = torch.__version__, torch.version.git_version, torch.compiled_with_cxx11_abi()
    machine = platform.machine()
    digest = hashlib.sha256(f'{sys.version}{torch_build}{machine}{sanitized()}{FLAGS}'.encode())
    for path in sorted(FOLDER.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def compile_args() -> list[str]:
    """Flags of the compiler, for setup.py and for the build on first use."""
    flags = SANITIZER_FLAGS if sanitized() else FLAGS
    return [*flags, f'-DLAS_BUILD_KEY={build_key()}']


def link_args() -> list[str]:
    """Flags of the linker."""
    return ['-fopenmp', *(['-fsanitize=address,undefined'] if sanitized() else [])]


def compile_library(folder: Path, name: str = NAME) -> bytes:
    """The compiled extension.

    Args:
        folder: An empty one, to work in.
        name: ``NAME`` for the extension of Python, ``OPERATORS`` for the library of operators.

    Raises:
        RuntimeError: If there is no compiler, or it fails; the message is its first error.
        OSError: If there is no room in the folder.
    """
    reasons = []
    for compiler in compilers():
        try:
            return _compile_by(compiler, folder, name)
        except RuntimeError as error:  # as of a clang++ without OpenMP beside a g++ with it
            reasons.append(error)
    raise reasons[0]


def compilers() -> list[list[str]]:
    """Commands to try in turn: ``$CXX`` and nothing else if it is set.

    Raises:
        RuntimeError: If there is none.
    """
    if chosen := os.environ.get('CXX', '').strip():
        try:
            command = [chosen] if shutil.which(chosen) else shlex.split(chosen)
        except ValueError:  # a quote without its other half
            command = [chosen]
        if not shutil.which(command[0]):
            raise RuntimeError(f'CXX: got {chosen!r}, which is no command')
        return [command]
    found = [[name] for name in COMPILERS if shutil.which(name)]
    if not found:
        raise RuntimeError(f'no C++ compiler: none of {", ".join(COMPILERS)} is on PATH')
    return found


def _compile_by(compiler: list[str], folder: Path, name: str) -> bytes:
    flags = [*compiler, *compile_args(), *_interface_args()]
    paths = sources(name)
    objects = [str(folder / f'{Path(path).stem}.o') for path in paths]
    commands = [[*flags, '-c', path, '-o', to] for path, to in zip(paths, objects, strict=True)]
    with ThreadPoolExecutor(_jobs()) as pool:
        try:
            list(pool.map(partial(_run, folder=folder), commands))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    library = folder / f'{name}.so'
    libraries = [*LIBRARIES, *(['-ltorch_python'] if name == NAME else [])]
    place = f'-L{Path(torch.__file__).parent / "lib"}'
    _run(
        [*compiler, '-shared', *objects, *link_args(), place, *libraries, '-o', str(library)],
        folder,
    )
    return library.read_bytes()


def _interface_args() -> list[str]:
    """Flags that Python's and PyTorch's headers ask for."""
    include = Path(torch.__file__).parent / 'include'
    folders = [str(include), str(include / 'torch' / 'csrc' / 'api' / 'include')]
    # Debian's own scheme names a folder for local packages.
    folders += [sysconfig.get_path('include', 'posix_prefix'), sysconfig.get_path('include')]
    args = ['-std=c++17', '-fPIC', '-DTORCH_API_INCLUDE_EXTENSION_H']
    args += [f'-DTORCH_EXTENSION_NAME={NAME}']
    args += [f'-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}']
    for name in ('COMPILER_TYPE', 'STDLIB', 'BUILD_ABI'):  # of older ones
        if value := getattr(torch._C, f'_PYBIND11_{name}', None):
            args.append(f'-DPYBIND11_{name}="{value}"')
    return args + [arg for path in dict.fromkeys(folders) for arg in ('-isystem', path)]


def _jobs() -> int:
    """Compilers at a time: ``$MAX_JOBS``, by default as many as this process may use cores."""
    wanted = os.environ.get('MAX_JOBS', '')
    usable = getattr(os, 'sched_getaffinity', lambda pid: range(os.cpu_count() or 1))
    return max(1, int(wanted)) if wanted.isdecimal() else len(usable(0))


def _run(command: list[str], folder: Path) -> None:
    """Run a compiler; its own temporary files go to the folder, too."""
    environment = {**os.environ, 'TMPDIR': str(folder), 'LC_ALL': 'C'}
    options: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        # A child forked in between would hold an end of the pipes that Popen makes, and wait for
        # this build, which would wait for that end to be closed.
        with _starting:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, errors='replace', **options
            )
    except OSError as error:  # PATH has it, and it is no program
        raise RuntimeError(f'{command[0]}: {error.strerror}') from error
    said = process.communicate()[0].strip()
    if process.returncode == 0:
        return
    if any(text in said for text in NO_ROOM):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    lines = said.splitlines() or [f'{command[0]} ended with {process.returncode}']
    raise RuntimeError(next((line for line in lines if 'error' in line), lines[-1]).strip())
