"""The C++ extension: installed with the package, or built on first use and kept in a cache."""

import hashlib
import importlib.util
import logging
import os
import sys
import tempfile
from functools import cache
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from subprocess import SubprocessError
from types import ModuleType

import torch

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

logger = logging.getLogger('las_mm')


def sources() -> list[str]:
    """Paths of the translation units."""
    return sorted(map(str, FOLDER.glob('*.cpp')))


def sanitized() -> bool:
    """Whether to build for the sanitizers; the caller must preload their libraries."""
    return os.environ.get('LAS_MM_SANITIZE', '') not in ('', '0')


def build_key() -> str:
    """Changes with the sources, the flags and the versions of Python and PyTorch."""
    digest = hashlib.sha256(f'{sys.version}{torch.__version__}{sanitized()}{FLAGS}'.encode())
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


def cache_folder() -> Path:
    """Where built extensions are kept: ``$LAS_MM_CACHE``, by default ``~/.cache/las_mm``."""
    folder = os.environ.get('LAS_MM_CACHE')
    return Path(folder) if folder else Path.home() / '.cache' / 'las_mm'


@cache
def load_native() -> tuple[ModuleType | None, str | None]:
    """The extension, or None and the reason why there is none on this machine.

    Looks for the installed one, then for one in the cache, then builds it. Several processes may
    call this at once: one builds, the others wait.
    """
    try:
        return _installed() or _import(build_library()), None
    except (RuntimeError, OSError, ImportError, SubprocessError) as error:
        logger.debug('executor: building the C++ extension failed', exc_info=True)
        lines = str(error).strip().splitlines() or [type(error).__name__]
        cause = next((line for line in lines if 'error:' in line), lines[0]).strip()
        return None, f'there is no C++ extension ({cause}); install g++ >= 9 and ninja to build it'


def _installed() -> ModuleType | None:
    """The extension that was installed with the package, if it is of these sources."""
    for path in Path(__file__).parent.glob(f'{NAME}.*so'):
        try:
            native = _import(path)
        except ImportError:  # of another version of PyTorch or Python
            continue
        if native.build_key == build_key():
            return native
    return None


def build_library() -> Path:
    """Build the extension into the cache, unless it is there; returns its path.

    Raises:
        RuntimeError, OSError, ImportError: If it cannot be built.
    """
    import fcntl  # not on every system; where it is missing there is no extension

    key = build_key()
    library = cache_folder() / key / f'{NAME}.so'
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with open(library.parent / 'lock', 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the system even if this process dies
            if not library.exists():
                _build(library)
    return library


def _build(library: Path) -> None:
    """Compile into a temporary folder, then put the result in its place at once."""
    from torch.utils import cpp_extension

    logger.warning('executor: building the C++ extension, once, for about half a minute')
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        cpp_extension.load(
            NAME,
            sources(),
            extra_cflags=compile_args(),
            extra_ldflags=link_args(),
            build_directory=folder,
            is_python_module=False,
        )
        os.replace(Path(folder) / f'{NAME}.so', library)


def _import(path: Path) -> ModuleType:
    loader = ExtensionFileLoader(NAME, str(path))
    module = importlib.util.module_from_spec(ModuleSpec(NAME, loader, origin=str(path)))
    loader.exec_module(module)
    return module
