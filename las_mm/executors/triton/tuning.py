"""The fastest tile for each kernel, shape, dtype and device: timed once, kept on disk."""

import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import torch
import triton
from triton.errors import TritonError

from las_mm.ops.native.build import cache_folder
from las_mm.ops.native.library import write_beside

from .launch import compiling_only
from .tiles import Tile
from .timing import time_graph

# What was found in the file or by timing, so that a launch need not look for it again.
_chosen: dict[tuple[torch.device, str], Tile] = {}


def cache_file(device: torch.device) -> Path | None:
    """Where the choices for a device are kept, beside compiled extensions; None without a home."""
    name = torch.cuda.get_device_name(device).lower().replace(' ', '-').replace('/', '-')
    try:
        return cache_folder() / f'triton-{triton.__version__}-{name}.json'
    except OSError:
        return None


def choose_tile(
    name: str,
    shape: str,
    device: torch.device,
    tiles: Sequence[Tile],
    scratch: Callable[[], Callable[[Tile], None]],
    tune: bool = True,
) -> Tile:
    """The fastest of some tiles.

    The choice is read from the cache. What is not there yet is timed, unless ``tune`` is off or a
    CUDA graph is being captured; then it is the first tile.

    Args:
        name: Of the kernel.
        shape: All that its time depends on, dtype included.
        device: The device.
        tiles: What there is to choose from.
        scratch: Gives a function that runs the kernel with a tile, any number of times, on
            buffers that it may spoil.
        tune: Whether to time.

    Raises:
        TritonError, RuntimeError: If the kernel runs with none of the tiles.
    """
    if compiling_only():
        return _compile(tiles, scratch(), tune)
    if len(tiles) == 1 or device.type != 'cuda':
        return tiles[0]
    key = device, f'{name} {shape}'
    if key not in _chosen:
        known = _load(cache_file(device)).get(key[1])
        if known is not None and known in tiles:
            _chosen[key] = known
        elif not tune or torch.cuda.is_current_stream_capturing():
            return tiles[0]
        else:
            try:
                run = scratch()
            except torch.OutOfMemoryError:  # of buffers to spoil, which the kernel does not need
                return tiles[0]
            _chosen[key] = _fastest(tiles, run, device)
            _store(cache_file(device), key[1], _chosen[key])
    return _chosen[key]


def _compile(tiles: Sequence[Tile], run: Callable[[Tile], None], tune: bool) -> Tile:
    for tile in tiles if tune else tiles[:1]:
        run(tile)
    return tiles[0]


def _fastest(tiles: Sequence[Tile], run: Callable[[Tile], None], device: torch.device) -> Tile:
    """The fastest tile; one that cannot be compiled or that the device has no room for is none."""
    times, errors = {}, []
    for tile in tiles:
        try:
            times[tile] = time_graph(partial(run, tile), device)
        except (TritonError, RuntimeError) as error:
            errors.append(error)
    if not times:
        raise errors[0]
    return min(times, key=times.__getitem__)


@cache
def _load(path: Path | None) -> dict[str, Tile]:
    return _read(path)


def _read(path: Path | None) -> dict[str, Tile]:
    if path is None:
        return {}
    try:
        entries = json.loads(path.read_text())
        return {key: Tile(**entry) for key, entry in entries.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        logging.getLogger('las_mm').warning(f'{path} is left aside, tiles are timed anew: {error}')
        return {}


def _store(path: Path | None, key: str, tile: Tile) -> None:
    """Add a choice to the file, as others may at the same time; no disk is no error."""
    known = _load(path)
    known[key] = tile
    if path is None:
        return
    known.update({other: choice for other, choice in _read(path).items() if other not in known})
    content = json.dumps({name: asdict(choice) for name, choice in known.items()}, indent=1)
    with contextlib.suppress(OSError):
        write_beside(path, content.encode())
