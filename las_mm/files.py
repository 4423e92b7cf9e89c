"""Reading and writing small files: one-line errors, and nothing half-written left behind."""

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file completely or not at all; its folder is made where missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.tmp')
    try:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode('utf-8'))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
