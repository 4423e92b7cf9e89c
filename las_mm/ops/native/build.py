"""The C++ extension: installed with the package, or built on first use and kept in a cache."""

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import IO, TypeVar

from .compilation import NAME, build_key, compile_library, sanitized
from .library import import_file, import_library, is_cut_off, keep_library, read_library

Result = TypeVar('Result')
LONGEST_WAIT = 900.0  # seconds that another process may take to build

logger = logging.getLogger('las_mm')


def once(function: Callable[[], Result]) -> Callable[[], Result]:
    """Call a function once a process; threads that ask meanwhile wait for its answer."""
    answers: list[Result] = []
    locks = [threading.RLock()]

    def renew_lock() -> None:  # a thread that has it at a fork does not live on in the child
        locks[0] = threading.RLock()

    if hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_child=renew_lock)

    @wraps(function)
    def ask() -> Result:
        if not answers:
            with locks[0]:
                if not answers:
                    answers.append(function())
        return answers[0]

    return ask


def cache_folder() -> Path:
    """Where built extensions are kept: ``$LAS_MM_CACHE``, by default ``~/.cache/las_mm``.

    Raises:
        OSError: If there is no home, either.
    """
    if folder := os.environ.get('LAS_MM_CACHE'):
        return Path(folder).expanduser().absolute()
    try:
        return Path.home() / '.cache' / 'las_mm'
    except RuntimeError as error:
        raise OSError(f'no home: {error}') from error


@once
def load_native() -> tuple[ModuleType | None, str | None]:
    """The extension, or None and the reason why there is none on this machine.

    Looks for the installed one, then for one in the cache, then builds it. Several processes and
    threads may call this at once: one builds, the others wait.
    """
    try:
        return _installed() or _built(), None
    except (RuntimeError, OSError, ImportError) as error:
        logger.debug('executor: building the C++ extension failed', exc_info=True)
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
        return None, f'there is no C++ extension ({cause}); {_advice(error)}'


def _advice(error: Exception) -> str:
    if isinstance(error, ImportError):
        return 'this system cannot load what its compiler builds'
    if isinstance(error, OSError):
        return 'make room, or let TMPDIR name a folder that has some'
    return "install g++ >= 9 and Python's headers to build it"


def build_library(name: str = NAME) -> Path:
    """Build a library into the cache, unless it is there; returns its path.

    Args:
        name: ``NAME`` for the extension of Python, ``OPERATORS`` for the library of operators.

    Raises:
        RuntimeError: If it cannot be compiled.
        OSError: If the cache cannot be written.
    """
    path = _cached(name)
    _find_or_build(path)
    if read_library(path) is None:
        raise OSError(f'{path} cannot be written')
    return path


def _cached(name: str = NAME) -> Path:
    return cache_folder() / build_key() / f'{name}.so'


def _installed() -> ModuleType | None:
    """The extension that was installed with the package, if it is whole and of these sources."""
    for path in Path(__file__).parent.glob(f'{NAME}.*so'):
        try:
            library = path.read_bytes()
            # To import it and ask would keep another one from defining its classes.
            if build_key().encode() not in library:
                continue
            if not is_cut_off(library):
                return _import(path, library)
            logger.warning(f'executor: {path} is cut off and left aside; install las_mm again')
        except (OSError, ImportError) as error:  # of another system
            logger.debug(f'executor: {path} cannot be used: {error}')
    return None


def _built() -> ModuleType:
    """The extension of the cache; built if it is not there, not whole, or cannot be imported."""
    try:
        path = _cached()
    except OSError as error:
        _log_unkept(error)
        return import_library(NAME, _compile(None))
    library = _find_or_build(path)
    try:
        return _import(path, library)
    except ImportError as error:  # of another system that shares the cache
        logger.warning(f'executor: {path} is built again, it cannot be imported: {error}')
        return _import(path, _find_or_build(path, unusable=library))


def _import(path: Path, library: bytes) -> ModuleType:
    # Whoever reports where memory was misused looks into the file.
    in_file = sanitized() and path.exists()
    return import_file(NAME, path) if in_file else import_library(NAME, library)


def _find_or_build(path: Path, unusable: bytes | None = None) -> bytes:
    """The library, of the cache unless it is ``unusable`` there, else compiled and kept there."""
    library = read_library(path)
    if library is None or library == unusable:
        with _turn(path.parent):
            library = read_library(path)  # others may have been at it meanwhile
            if library is None or library == unusable:
                library = _compile(path.parent, path.stem)
                try:
                    keep_library(path, library)
                except OSError as error:
                    _log_unkept(error)
    return library


def _log_unkept(error: OSError) -> None:
    logger.warning(
        f'executor: the C++ extension is built for this process alone, as it cannot be kept '
        f'({error}); let LAS_MM_CACHE name a folder that can be written'
    )


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait until no other process builds in the folder.

    Where there is no way to tell, all build, each for itself: what they keep takes its place whole.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(folder / 'lock', 'w'))
        except OSError:
            lock = None
        if lock and _lock(lock):
            # Not by closing it: a process that was forked meanwhile has it open, too.
            stack.callback(_unlock, lock)
            for rest in folder.glob('build-*'):  # of processes that were killed
                shutil.rmtree(rest, ignore_errors=True)
            for part in folder.glob('*.tmp'):
                with suppress(OSError):
                    part.unlink()
        yield


def _lock(file: IO) -> bool:
    """Take the lock; False if the file system has none, or somebody keeps it for too long."""
    try:
        import fcntl
    except ImportError:  # not on every system
        return False
    end = time.monotonic() + LONGEST_WAIT
    waiting = False
    while time.monotonic() < end:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system frees it if we die
            return True
        except BlockingIOError:
            if not waiting:
                logger.warning('executor: waiting for another process to build the C++ extension')
            waiting = True
            time.sleep(0.05)
        except OSError:
            return False
    return False


def _unlock(file: IO) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)


def _compile(folder: Path | None, name: str = NAME) -> bytes:
    """Compile in the folder, or where the system keeps temporary files if there is no room."""
    what = 'C++ extension' if name == NAME else 'library of operators'
    logger.warning(f'executor: building the {what}, once, for about half a minute')
    if folder is not None:
        try:
            return _compile_in(folder, name)
        except OSError as error:
            logger.debug(f'executor: no room to build in {folder}: {error}')
    return _compile_in(None, name)


def _compile_in(folder: Path | None, name: str) -> bytes:
    with tempfile.TemporaryDirectory(
        prefix='build-', dir=folder, ignore_cleanup_errors=True
    ) as work:
        return compile_library(Path(work), name)
