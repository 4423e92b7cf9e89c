"""A training that goes on with this or another loader: exact where it can be, nothing lost else."""

import pytest
import torch
from runs import Recorder, runner_of, samples

from las_mm.checkpoints.loading import latest_checkpoint

WITHIN = dict(checkpoint=dict(by_epoch=False, interval=1, max_keep_ckpts=2))
SAMPLERS = {
    'shuffled': dict(type='DefaultSampler', shuffle=True),
    'repeated augmentation': dict(type='mmpretrain.RepeatAugSampler', num_repeats=2),
}


class Drawn(Recorder):
    """Notes the images of every iteration, too."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        super().__init__(interrupt_at)
        self.images: dict[int, list[float]] = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.images[runner.iter] = [image.float().mean().item() for image in data_batch['inputs']]


def runner_with(folder, hook, loader: dict, **options):
    """A training with changes in its data loader."""
    runner = runner_of(folder, hook, dataset=samples(), **{**WITHIN, **options})
    runner._train_dataloader.update(loader)
    return runner


def interrupted(folder, loader: dict, at: int = 5, **options) -> Drawn:
    hook = Drawn(interrupt_at=at)
    with pytest.raises(KeyboardInterrupt):
        runner_with(folder, hook, loader, **options).train()
    return hook


def resumed(folder, loader: dict, **options) -> tuple[Drawn, torch.nn.Module]:
    hook = Drawn()
    load = str(latest_checkpoint(folder))
    runner = runner_with(folder, hook, loader, resume=True, load_from=load, **options)
    runner.train()
    return hook, runner.model


@pytest.mark.parametrize('workers', [(0, 0), (0, 2)])
@pytest.mark.parametrize('sampler', SAMPLERS)
def test_samplers_and_numbers_of_workers_go_on_exactly(tmp_path, sampler, workers):
    loader, other = (dict(sampler=SAMPLERS[sampler], num_workers=number) for number in workers)
    torch.manual_seed(0)
    whole = Drawn()
    runner = runner_with(tmp_path / 'whole', whole, loader)
    runner.train()
    torch.manual_seed(0)
    first = interrupted(tmp_path / 'parts', loader)
    second, model = resumed(tmp_path / 'parts', other)
    assert sorted(first.images | second.images) == sorted(whole.images)
    for images in (first.images, second.images):
        assert all(whole.images[step] == found for step, found in images.items())
    for name, weight in runner.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


@pytest.mark.parametrize('batch', [3, 4, 8])
def test_another_batch_size_trains_on_the_rest_of_the_epoch(tmp_path, batch):
    first = interrupted(tmp_path, {})  # two of four batches of the second epoch
    second, _ = resumed(tmp_path, dict(batch_size=batch))
    epochs = -(-8 // batch)
    done = 4 // batch  # whole batches of what was trained on
    assert len(second.images) == (epochs - done) + epochs
    drawn = [image for images in second.images.values() for image in images]
    known = {image for images in first.images.values() for image in images}
    last = drawn[-8:]
    assert len(set(last)) == 8 and known <= set(last), 'the last epoch is a whole one'


@pytest.mark.parametrize(
    'changes', [dict(batch_size=4), dict(sampler=dict(type='InfiniteSampler', shuffle=False))]
)
def test_loops_by_iteration_go_on_for_the_iterations_that_are_left(tmp_path, changes):
    options = dict(train_cfg=dict(by_epoch=False, max_iters=12), infinite=True, epochs=None)
    interrupted(tmp_path, {}, **options)
    second, _ = resumed(tmp_path, changes, **options)
    assert sorted(second.images) == list(range(6, 12))


def test_accumulated_gradients_go_on_at_their_multiples(tmp_path):
    options = dict(optim_wrapper=dict(accumulative_counts=2))
    torch.manual_seed(0)
    whole = runner_with(tmp_path / 'whole', Drawn(), {}, **options)
    whole.train()
    torch.manual_seed(0)
    interrupted(tmp_path / 'parts', {}, **options)
    _, model = resumed(tmp_path / 'parts', {}, **options)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
