"""Randomness is a function of seed and progress: in samples, batches and the network."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from las_mm.randomness import RestOfEpoch, SeededBatches, seed_generators, seed_items


class Noise(Dataset):
    """Samples that draw from every generator there is."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        drawn = [index, random.random(), np.random.rand(), torch.rand(()).item()]
        return torch.tensor(drawn, dtype=torch.float64)


def epochs(workers: int, order=range(8), seed: int = 3) -> list[torch.Tensor]:
    """Samples of two epochs by their index."""
    dataset = Noise()
    items = seed_items(dataset, seed)
    loader = DataLoader(
        dataset, 2, sampler=order, num_workers=workers, persistent_workers=workers > 0
    )
    found = []
    for epoch in range(2):
        items.epoch.fill_(epoch)
        samples = torch.cat(list(loader))
        found.append(samples[samples[:, 0].argsort()])
    return found


def test_generators_repeat_and_different_numbers_differ():
    drawn = []
    for numbers in ((0, 1), (0, 1), (1, 0), (0, 2)):
        seed_generators(*numbers)
        drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
    assert drawn[0] == drawn[1]
    assert all(len(set(values)) == 3 for values in zip(*drawn, strict=True))


def test_a_sample_depends_on_seed_epoch_and_index_alone():
    first, second = epochs(workers=0)
    for workers, order in ((0, [3, 1, 7, 5, 0, 2, 6, 4]), (2, range(8))):
        other_first, other_second = epochs(workers, order)
        assert torch.equal(other_first, first)
        assert torch.equal(other_second, second)
    assert not (first[:, 1:] == second[:, 1:]).any()
    assert not (epochs(workers=0, seed=4)[0][:, 1:] == first[:, 1:]).any()
    assert len(set(first[:, 1:].flatten().tolist())) == 24


def test_data_sets_that_load_in_their_own_way_are_left_alone():
    class Batches(Noise):
        def __getitems__(self, indices):
            return [self[index] for index in indices]

    assert seed_items([1, 2], 0) is None
    assert seed_items(Batches(), 0) is None


def test_batches_are_seeded_by_their_number():
    def batches():
        while True:
            yield random.random()

    first, again = SeededBatches(batches(), 5), SeededBatches(batches(), 5)
    values = [next(first) for _ in range(3)]
    random.seed(1)
    assert [next(again) for _ in range(3)] == values
    assert len(set(values)) == 3
    later = SeededBatches(batches(), 5)
    later.skip_iter(2)
    assert next(later) == values[2]
    assert list(SeededBatches(iter([1, 2]), 0)) == [1, 2]


@pytest.mark.parametrize(('done', 'left'), [(1, [2, 3, 4, 5, 6, 7]), (4, [])])
def test_the_rest_of_an_epoch(done, left):
    loader = DataLoader(list(range(8)), batch_size=2)
    rest = RestOfEpoch(loader, done)
    assert [int(value) for batch in rest for value in batch] == left
    assert len(rest) == 4
    assert rest.dataset is loader.dataset
