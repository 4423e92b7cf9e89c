"""Randomness as a function of seed and progress: a resumed training needs no state of it."""

import random
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch.utils.data import DataLoader

from .resuming import Draw, NumberedBatches

ITERATION, SAMPLE = 0, 1  # streams of random numbers: the network's and the data's


def seed_generators(*numbers: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, those of all GPUs included.

    Args:
        numbers: What the seed is a function of, each >= 0; different ones give independent streams.
    """
    python, numpy, torch_seed = np.random.SeedSequence(numbers).generate_state(3).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(torch_seed)


class SeededItems:
    """Loads samples so that what is random in each depends on seed, epoch and draw alone.

    The draw is the sample's place among all that this process draws in the epoch, so that an index
    which is drawn several times is augmented in several ways.

    As ``dataset.__getitems__`` it is what a data loader's workers call for a batch (a protocol of
    ``torch.utils.data``): which of them loads a sample, and what it loaded before, says nothing.

    Args:
        dataset: The data set.
        seed: The training's seed.
        rank: Number of this process among those that train.

    Attributes:
        epoch: () integer that all workers see, persistent ones included.
    """

    def __init__(self, dataset: Any, seed: int, rank: int) -> None:
        self.dataset, self.seed, self.rank = dataset, seed, rank
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __call__(self, indices: Sequence[int]) -> list:
        items = []
        for index in indices:
            if isinstance(index, Draw):
                place, index = index.number, int(index)
            else:  # such as a pair of numbers, or a name
                place = crc32(repr(index).encode())
            seed_generators(SAMPLE, self.seed, int(self.epoch), self.rank, place)
            items.append(self.dataset[index])
        return items


def seed_items(loader: DataLoader, seed: int, rank: int) -> SeededItems | None:
    """Make a loader's data set load its samples by :class:`SeededItems`.

    Returns:
        What loads them; None for a plain list and a data set that loads batches its own way.
    """
    dataset: Any = loader.dataset
    if not hasattr(dataset, '__dict__') or hasattr(dataset, '__getitems__'):
        return None
    dataset.__getitems__ = SeededItems(dataset, seed, rank)
    # Assigning it is refused, as it would not reach workers that run already; none do.
    loader.__dict__['batch_sampler'] = NumberedBatches(loader.batch_sampler)
    return dataset.__getitems__


class SeededBatches:
    """Batches, each loaded with generators seeded by its number where this process loads it.

    Args:
        batches: What loads them.
        seed: The training's seed.
    """

    def __init__(self, batches: Iterator, seed: int) -> None:
        self.batches, self.seed, self.number = batches, seed, 0

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        seed_generators(SAMPLE, self.seed, self.number)
        self.number += 1
        return next(self.batches)

    def skip_iter(self, count: int) -> None:
        """Load and drop the past batches, as a resumed loop of mmengine's fork asks for."""
        for _ in range(count):
            next(self)


class RestOfEpoch:
    """A data loader without the batches of the epoch that were trained on before.

    Args:
        loader: The data loader.
        done: How many of its batches to leave out; they are loaded and dropped.
    """

    def __init__(self, loader: DataLoader, done: int) -> None:
        self.loader, self.done = loader, done

    def __iter__(self) -> Iterator:
        if self.done == len(self.loader):
            return
        batches = iter(self.loader)
        for _ in range(self.done):
            next(batches)
        yield from batches

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)
