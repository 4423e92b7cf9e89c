"""An interrupted training goes on with the same schedules and without a lost checkpoint."""

import os

import numpy as np
import pytest
import torch
from mmengine.config import Config
from runs import Recorder, runner_of, samples
from torch.utils.data import Dataset

from las_mm.checkpoints.loading import latest_checkpoint


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory) -> dict:
    recorder = Recorder()
    runner_of(tmp_path_factory.mktemp('whole'), recorder).train()
    return recorder.values


def test_schedules_move_in_every_iteration(uninterrupted):
    assert sorted(uninterrupted) == list(range(12))
    temperatures, rates, lower, upper = zip(*(uninterrupted[i] for i in range(12)), strict=True)
    wanted = [5.0 * 0.02 ** (i / 12) for i in range(12)]
    assert temperatures == pytest.approx(wanted, rel=1e-12)
    assert list(rates) == sorted(rates, reverse=True)
    assert (lower[0], upper[0]) == (0.5, 0.5)
    assert lower[4:] == pytest.approx([0] * 8, abs=1e-12)
    assert upper[4:] == pytest.approx([1] * 8)


@pytest.mark.parametrize('iteration', [4, 6, 7, 8, 11])
def test_resume_continues_every_schedule(tmp_path, uninterrupted, iteration):
    first, second = Recorder(interrupt_at=iteration), Recorder()
    with pytest.raises(KeyboardInterrupt):
        runner_of(tmp_path, first).train()
    epoch = iteration // 4
    assert latest_checkpoint(tmp_path).name == f'epoch_{epoch}.pth'
    load = str(latest_checkpoint(tmp_path))
    runner = runner_of(tmp_path, second, resume=True, load_from=load)
    runner.train()
    assert sorted(second.values) == list(range(4 * epoch, 12))
    for values in (first.values, second.values):
        for step, value in values.items():
            assert value == pytest.approx(uninterrupted[step], rel=1e-12), step
    assert latest_checkpoint(tmp_path).name == 'epoch_3.pth'


def test_resume_restores_optimizer_and_history(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        runner_of(tmp_path, Recorder(interrupt_at=4)).train()
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    runner = runner_of(tmp_path, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.load_or_resume()
    for state, wanted in zip(
        runner.optim_wrapper.state_dict()['state'].values(),
        saved['optimizer']['state'].values(),
        strict=True,
    ):
        assert torch.equal(state['momentum_buffer'], wanted['momentum_buffer'])
    history = runner.message_hub.get_scalar('train/flops_ratio')
    assert len(history.data[0]) == 4
    assert (runner.epoch, runner.iter) == (1, 4)


class Noisy(Dataset):
    """Images with noise of NumPy's generator, drawn whenever one is loaded."""

    def __init__(self) -> None:
        self.samples = samples(8)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        sample = self.samples[index]
        noise = torch.from_numpy(np.random.randint(0, 50, (3, 32, 32), np.uint8))
        return dict(sample, inputs=sample['inputs'] // 2 + noise)


EVERY_ITERATION = dict(checkpoint=dict(by_epoch=False, max_keep_ckpts=2))
BY_ITERATION = dict(
    EVERY_ITERATION, train_cfg=dict(by_epoch=False, max_iters=12), infinite=True, epochs=None
)


@pytest.mark.parametrize('iteration', [5, 7])
@pytest.mark.parametrize(
    'options', [{}, EVERY_ITERATION, BY_ITERATION], ids=['epochs', 'within epochs', 'iterations']
)
def test_losses_are_those_of_the_uninterrupted_training(tmp_path, options, iteration):

    def runner_from(seed: int, folder, *hooks, **more):
        torch.manual_seed(seed)  # of the weights at the start
        return runner_of(folder, *hooks, dataset=Noisy(), **options, **more)

    whole = runner_from(0, tmp_path / 'whole')
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        runner_from(0, tmp_path, Recorder(interrupt_at=iteration)).train()
    load = str(latest_checkpoint(tmp_path))
    runner = runner_from(1, tmp_path, resume=True, load_from=load)
    np.random.seed(99)
    runner.train()
    for name in ('loss', 'flops_ratio', 'lr'):
        logs = [r.message_hub.get_scalar(f'train/{name}').data[0] for r in (whole, runner)]
        assert len(logs[0]) == 12
        assert logs[0].tolist() == logs[1].tolist(), name
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(runner.model.state_dict()[name], weight), name
    assert len(list(tmp_path.glob('*.pth'))) <= (2 if options else 3)


def test_leftovers_of_a_killed_training_are_removed(tmp_path):
    (tmp_path / '.epoch_7.pth.tmp').write_bytes(b'half')
    runner_of(tmp_path, epochs=1).train()
    assert [path.name for path in tmp_path.glob('.*')] == []


def test_a_seed_drawn_at_the_start_goes_on(load_tool, tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), randomness=dict(seed=None, deterministic=True)))
    load_tool('train').set_resume(cfg, 'auto')
    assert 'resume' not in cfg
    torch.save(dict(state_dict={}, meta=dict(seed=123)), tmp_path / 'epoch_1.pth')
    load_tool('train').set_resume(cfg, 'auto')
    assert cfg.load_from == str(tmp_path / 'epoch_1.pth')
    assert cfg.randomness == dict(seed=123, deterministic=True)
    cfg.randomness.seed = 5
    load_tool('train').set_resume(cfg, 'auto')
    assert cfg.randomness.seed == 5


@pytest.mark.parametrize('keep', [1, 2])
def test_an_interruption_while_saving_leaves_the_last_checkpoint(tmp_path, monkeypatch, keep):
    replace = os.replace

    def interrupt(source, target):
        if str(target).endswith('epoch_3.pth'):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, 'replace', interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner_of(tmp_path, checkpoint=dict(max_keep_ckpts=keep)).train()
    monkeypatch.undo()
    latest = latest_checkpoint(tmp_path)
    assert latest.name == 'epoch_2.pth'
    assert torch.load(latest, weights_only=True)['meta']['epoch'] == 2
    assert not [path for path in tmp_path.iterdir() if path.name.endswith('.tmp')]


def test_the_latest_checkpoint_is_found_with_and_without_a_note(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    note = tmp_path / 'last_checkpoint'
    note.write_text('')
    assert latest_checkpoint(tmp_path) is None
    for time, name in enumerate(('epoch_1.pth', 'epoch_10.pth', 'epoch_9.pth')):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    note.write_text(str(tmp_path / 'gone.pth'))
    assert latest_checkpoint(tmp_path).name == 'epoch_9.pth'
    elsewhere = tmp_path / 'elsewhere' / 'iter_5.pth'
    elsewhere.parent.mkdir()
    elsewhere.touch()
    note.write_text(f'{elsewhere}\n')
    assert latest_checkpoint(tmp_path) == elsewhere
