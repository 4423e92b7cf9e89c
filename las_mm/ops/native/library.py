"""A compiled library on its way to the disk and back: whole, or not at all."""

import hashlib
import importlib.util
import os
import struct
import tempfile
from contextlib import suppress
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType

# Behind the library, where loaders do not look: this and the digest of all before it. In the same
# file, as two of them would not change together.
MARK = b'las_mm sha256 '


def keep_library(path: Path, library: bytes) -> None:
    """Write a library with its digest; it is on the disk before it has its name.

    Raises:
        OSError: If it cannot be written; nothing of it is left then.
    """
    write_beside(path, library + MARK + hashlib.sha256(library).digest())


def write_beside(path: Path, content: bytes) -> None:
    """Write a file under a name that no other process has, then put it in its place.

    Raises:
        OSError: If it cannot be written; nothing of it is left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp('.tmp', dir=path.parent)
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name on no content
        os.chmod(temporary, 0o644)  # others may use what they cannot write
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def read_library(path: Path) -> bytes | None:
    """What :func:`keep_library` wrote there; None if that is not what is there now."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    library, mark, digest = content.rpartition(MARK)
    return library if mark and hashlib.sha256(library).digest() == digest else None


def is_cut_off(library: bytes) -> bool:
    """Whether parts of a library are missing that its own tables tell of.

    Mapping such a file into memory kills the process. Where there is no digest, as of a library
    that was installed, this is what can be seen.
    """
    if len(library) < 64 or library[:4] != b'\x7fELF':
        return True
    if library[4:6] != b'\x02\x01':  # tables of another form
        return False
    segments, sections = struct.unpack_from('<QQ', library, 32)
    segment_size, segment_count, section_size, section_count, names = struct.unpack_from(
        '<5H', library, 54
    )
    ends = [segments + segment_size * segment_count, sections + section_size * section_count]
    if max(ends) > len(library):
        return True
    for index in range(segment_count):
        offset, size = struct.unpack_from('<8x Q 16x Q', library, segments + index * segment_size)
        if offset + size > len(library):
            return True
    # The last table is zeros where the end of the file never came to the disk.
    kind = struct.unpack_from('<4x I', library, sections + names * section_size)[0]
    return sections > 0 and kind != 3  # of strings


def import_library(name: str, library: bytes) -> ModuleType:
    """Import an extension from memory: nobody can change or cut off what was checked.

    Raises:
        ImportError: If it is of another PyTorch, Python or system.
        OSError: If there is neither memory nor a disk to load it from.
    """
    refused: ImportError | None = None
    try:
        return _import(name, _file_in_memory(name, library))
    except ImportError as error:  # also where nobody may run what is in no folder
        refused = error
    except (OSError, AttributeError):  # there are no such files, or there is no /proc
        pass
    with tempfile.NamedTemporaryFile(suffix='.so') as file:
        file.write(library)
        file.flush()
        try:
            return _import(name, file.name)
        except ImportError as error:
            raise refused or error from None


def _file_in_memory(name: str, library: bytes) -> str:
    """It stays open: the next one of the same number would be taken for this one."""
    handle = os.memfd_create(name)
    with open(handle, 'wb', closefd=False) as file:
        file.write(library)
    path = f'/proc/self/fd/{handle}'
    os.stat(path)
    return path


def import_file(name: str, path: Path) -> ModuleType:
    """Import an extension from where it is.

    Raises:
        ImportError: If it cannot be imported.
    """
    return _import(name, str(path))


def _import(name: str, path: str) -> ModuleType:
    loader = ExtensionFileLoader(name, path)
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=path))
    loader.exec_module(module)
    return module
