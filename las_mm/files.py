"""Reading and writing small files: one-line errors, and nothing half-written left behind."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file completely or not at all; its folder is made where missing.

    A killed process leaves ``.NAME.tmp``, which the next one to write the file takes over.

    Raises:
        OSError: If it cannot be written, as on a full disk; what was there before is still there.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open('wb') as file:
            file.write(content if isinstance(content, bytes) else content.encode('utf-8'))
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name on no content
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f'{str(path)!r} cannot be written ({error.strerror or error}); make room or check the '
            'path, what was there before is unharmed'
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def read_json(field: str, path: str | Path, hint: str = 'check the path') -> Any:
    """The content of a JSON file.

    Args:
        field: What the file is to the user, for the error.
        path: Of the file.
        hint: What to do where it is missing.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{field}: no file {str(path)!r}; {hint}')
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{field}: {str(path)!r} is not JSON ({error})') from None
