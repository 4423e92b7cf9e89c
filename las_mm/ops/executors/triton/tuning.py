"""The fastest tile for each kernel, shape, dtype and device: timed once, kept on disk."""

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch
import triton

from .launch import compiling_only
from .options import current_options
from .tiles import Tile

TIMED_MS = 5  # of repetitions of one tile


def cache_file(device: torch.device) -> Path:
    """Where the choices for a device are kept; the folder is ``LAS_MM_CACHE``, if that is set."""
    folder = os.environ.get('LAS_MM_CACHE') or Path.home() / '.cache' / 'las_mm'
    name = torch.cuda.get_device_name(device).lower().replace(' ', '-')
    return Path(folder) / f'triton-{triton.__version__}-{name}.json'


def choose_tile(
    name: str,
    shape: str,
    device: torch.device,
    tiles: Sequence[Tile],
    scratch: Callable[[], Callable[[Tile], None]],
) -> Tile:
    """The fastest of some tiles.

    The choice is read from the cache. What is not there yet is timed, unless
    :attr:`Options.tune` is off or a CUDA graph is being captured; then it is the first tile.

    Args:
        name: Of the kernel.
        shape: All that its time depends on, dtype included.
        device: The device.
        tiles: What there is to choose from.
        scratch: Gives a function that runs the kernel with a tile, any number of times, on
            buffers that it may spoil.
    """
    if compiling_only():
        return _compile(tiles, scratch())
    if len(tiles) == 1 or device.type != 'cuda':
        return tiles[0]
    path, key = cache_file(device), f'{name} {shape}'
    known = _load(path).get(key)
    if known is not None and known in tiles:
        return known
    if not current_options().tune or torch.cuda.is_current_stream_capturing():
        return tiles[0]
    run = scratch()
    torch.cuda.synchronize(device)  # timing has a stream of its own, which waits for no other
    times = {tile: _time(run, tile) for tile in tiles}
    best = min(times, key=times.__getitem__)
    _store(path, key, best)
    return best


def _compile(tiles: Sequence[Tile], run: Callable[[Tile], None]) -> Tile:
    for tile in tiles if current_options().tune else tiles[:1]:
        run(tile)
    return tiles[0]


def _time(run: Callable[[Tile], None], tile: Tile) -> float:
    """Milliseconds of one run; infinite for a tile that the device has no room for."""
    try:
        run(tile)
        return triton.testing.do_bench_cudagraph(lambda: run(tile), rep=TIMED_MS)
    except triton.runtime.errors.OutOfResources:
        return float('inf')


@cache
def _load(path: Path) -> dict[str, Tile]:
    return _read(path)


def _read(path: Path) -> dict[str, Tile]:
    try:
        entries = json.loads(path.read_text())
        return {key: Tile(**entry) for key, entry in entries.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        logging.getLogger('las_mm').warning(f'{path} is left aside, tiles are timed anew: {error}')
        return {}


def _store(path: Path, key: str, tile: Tile) -> None:
    """Add a choice to the file, as others may at the same time; no disk is no error."""
    known = _load(path)
    known[key] = tile
    known.update({other: choice for other, choice in _read(path).items() if other not in known})
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix='.json')
        with os.fdopen(handle, 'w') as file:
            json.dump({name: asdict(choice) for name, choice in known.items()}, file, indent=1)
        os.replace(temporary, path)
