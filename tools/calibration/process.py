"""A process that measures: with so many threads, and an allocator that does not disturb."""

from __future__ import annotations

import os
import sys

import torch

# glibc gives large blocks back to the system and pays for them again page by page, which would be
# charged to whoever touches them first.
_ALLOCATOR = {
    'MALLOC_MMAP_THRESHOLD_': str(1 << 32),
    'MALLOC_TRIM_THRESHOLD_': str(1 << 33),
    'MALLOC_TOP_PAD_': str(1 << 28),
}


def restart_with_quiet_allocator(threads: int) -> None:
    """Run this script again with memory kept by the allocator; glibc reads these only at start."""
    wanted = {**_ALLOCATOR, 'OMP_NUM_THREADS': str(threads)}
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(threads)
