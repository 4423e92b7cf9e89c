"""Checkpoints that are safe to load.

mmengine loads with ``torch.load``, which by default accepts weights and plain types only, but
saves log histories as Python objects; and what it downloads it unpickles. :mod:`las_mm.patches`
replaces mmengine's two loaders by those below.
"""

import os
import pickle
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, is_main_process

TRUST = 'LAS_MM_TRUST_CHECKPOINT'


class _Dropped:
    """Stands where a checkpoint holds an object that is neither weights nor a plain type."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# What mmengine's own checkpoints hold beside plain types; never built, only passed over.
_PASSED_OVER = [
    'mmengine.logging.history_buffer.HistoryBuffer',
    'builtins.getattr',
    '_codecs.encode',
    *(
        f'numpy.{name}'
        for core in ('core', '_core')
        for name in (f'{core}.multiarray._reconstruct', f'{core}.multiarray.scalar')
    ),
    'numpy.ndarray',
    'numpy.dtype',
]


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Load a checkpoint file without executing any code it may hold.

    Log histories and NumPy arrays in checkpoints of others are passed over; set the environment
    variable ``LAS_MM_TRUST_CHECKPOINT=1`` (``--trust-checkpoint`` of the tools) to unpickle
    everything in a file of which you know the source.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint, or holds anything but weights and plain types.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint: no file {str(path)!r}; check the path')
    if os.environ.get(TRUST) == '1':
        return torch.load(path, map_location=map_location, weights_only=False)
    try:
        with torch.serialization.safe_globals([(_Dropped, name) for name in _PASSED_OVER]):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()
        unsafe = next((line.strip() for line in reason if 'GLOBAL' in line), 'not a checkpoint')
        raise ValueError(
            f'checkpoint: refused {str(path)!r} ({unsafe}); it holds more than weights and plain '
            'types. Pass --trust-checkpoint only if you trust its source'
        ) from None
    except Exception as error:  # broken bytes lead torch to errors of many types
        said = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(
            f'checkpoint: {str(path)!r} is truncated or not a checkpoint ({said}); get it again'
        ) from None


def load_from_http(filename: str, map_location: Any = None, **_: Any) -> dict:
    """Load a checkpoint by URL, as safely as a local one; downloaded once, by the first process.

    Raises:
        FileNotFoundError: If it is not in torch's hub folder and cannot be downloaded.
        ValueError: As :func:`load_from_local`.
    """
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(filename).path).name)
    if is_main_process() and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(filename, str(path), progress=os.isatty(2))
        except OSError as error:
            raise FileNotFoundError(
                f'checkpoint: {filename} cannot be downloaded ({error}); get it by other means and '
                f'put it at {path}'
            ) from None
    barrier()
    return load_from_local(str(path), map_location)


def latest_checkpoint(work_dir: str | Path) -> Path | None:
    """The newest checkpoint of a training, by file time: an interrupted one may have written a
    checkpoint, but not yet mmengine's note of it. None if there is none.

    Args:
        work_dir: The training's work dir.
    """
    work_dir = Path(work_dir)
    candidates = [*work_dir.glob('epoch_*.pth'), *work_dir.glob('iter_*.pth')]
    note = work_dir / 'last_checkpoint'
    if note.is_file():
        candidates.append(Path(note.read_text().strip() or '.'))
    candidates = [path for path in candidates if path.is_file()]
    return max(candidates, key=lambda path: path.stat().st_mtime_ns, default=None)
