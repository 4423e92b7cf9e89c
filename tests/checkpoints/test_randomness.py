"""Randomness is a function of seed and progress: in samples, batches and the network."""

import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    WeightedRandomSampler,
)

from las_mm.checkpoints.randomness import RestOfEpoch, SeededBatches, seed_generators, seed_items
from las_mm.checkpoints.resuming import Draw


class Noise(Dataset):
    """Samples that draw from every generator there is."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        drawn = [index, random.random(), np.random.rand(), torch.rand(()).item()]
        return torch.tensor(drawn, dtype=torch.float64)


def epochs(workers: int, order=range(8), seed=3, batch=2, rank=0) -> list[torch.Tensor]:
    """Samples of two epochs, as they are drawn."""
    loader = DataLoader(
        Noise(), batch, sampler=order, num_workers=workers, persistent_workers=workers > 0
    )
    items = seed_items(loader, seed, rank)
    found = []
    for epoch in range(2):
        items.epoch.fill_(epoch)
        found.append(torch.cat(list(loader)))
    return found


def test_generators_repeat_and_different_numbers_differ():
    drawn = []
    for numbers in ((0, 1), (0, 1), (1, 0), (0, 2)):
        seed_generators(*numbers)
        drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
    assert drawn[0] == drawn[1]
    assert all(len(set(values)) == 3 for values in zip(*drawn, strict=True))


def test_a_sample_depends_on_seed_epoch_and_draw_alone():
    first, second = epochs(workers=0)
    for workers, batch in ((0, 3), (2, 2), (2, 1)):
        other_first, other_second = epochs(workers, batch=batch)
        assert torch.equal(other_first, first)
        assert torch.equal(other_second, second)
    assert not (first[:, 1:] == second[:, 1:]).any()
    assert not (epochs(workers=0, seed=4)[0][:, 1:] == first[:, 1:]).any()
    assert not (epochs(workers=0, rank=1)[0][:, 1:] == first[:, 1:]).any()
    assert len(set(first[:, 1:].flatten().tolist())) == 24


class Repeated(Sampler):
    """Draws every index three times an epoch, as repeated augmentation does."""

    def __iter__(self):
        return iter([index for index in range(8) for _ in range(3)])

    def __len__(self):
        return 24


SAMPLERS = {
    'repeated': Repeated,
    'weighted': lambda: WeightedRandomSampler([1.0, 9, 1, 9, 1, 1, 1, 9], 24),
    'with replacement': lambda: RandomSampler(range(8), replacement=True, num_samples=24),
    'always the same': lambda: [3] * 6,
}


@pytest.mark.parametrize('name', SAMPLERS)
@pytest.mark.parametrize('workers', [0, 2])
def test_an_index_drawn_several_times_is_another_sample_each_time(name, workers):
    torch.manual_seed(0)
    drawn = epochs(workers, SAMPLERS[name](), batch=5)[0]
    assert len(set(drawn[:, 0].tolist())) < len(drawn)
    assert len(set(drawn[:, 1:].flatten().tolist())) == 3 * len(drawn)


def test_batch_samplers_keep_what_is_theirs():
    class ByTwos(BatchSampler):
        def set_epoch(self, epoch):
            self.epoch = epoch

    batches = ByTwos(range(8), 3, drop_last=False)
    loader = DataLoader(Noise(), batch_sampler=batches)
    items = seed_items(loader, 0, 0)
    loader.batch_sampler.set_epoch(5)
    assert batches.epoch == 5 and len(loader) == 3 and items is not None
    assert [int(i) for batch in loader for i in batch[:, 0]] == list(range(8))
    assert pickle.loads(pickle.dumps(Draw(4, 9))).number == 9


def test_data_sets_that_load_in_their_own_way_are_left_alone():
    class Batches(Noise):
        def __getitems__(self, indices):
            return [self[index] for index in indices]

    for dataset in ([1, 2], Batches()):
        loader = DataLoader(dataset)
        before = loader.batch_sampler
        assert seed_items(loader, 0, 0) is None and loader.batch_sampler is before


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
