"""A loss that is no number stops training and says where, on what, and how to go on."""

import pytest
import torch
from mmengine.hooks import Hook
from runs import SCHEDULES, runner_of, samples

from las_mm.hooks.invalid_loss import batch_files, last_good_checkpoint


class Poison(Hook):
    """Spoils a weight at the start of an iteration."""

    def __init__(self, iteration: int, value: float) -> None:
        self.iteration, self.value = iteration, value

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == self.iteration:
            runner.model.head.fc.bias.data[0] = self.value


def named_samples() -> list[dict]:
    data = samples()
    for index, sample in enumerate(data):
        sample['data_samples'].set_metainfo(dict(img_path=f'images/{index}.png'))
    return data


@pytest.mark.parametrize(('iteration', 'value'), [(5, float('nan')), (2, float('inf'))])
def test_training_stops_and_names_what_one_needs(tmp_path, iteration, value):
    runner = runner_of(
        tmp_path,
        Poison(iteration, value),
        dataset=named_samples(),
        custom_hooks=[*SCHEDULES, dict(type='InvalidLossHook')],
    )
    with pytest.raises(ValueError, match='loss not finite in') as error:
        runner.train()
    message = str(error.value)
    assert f'iteration {iteration + 1} (epoch {iteration // 4 + 1})' in message
    assert message.count('images/') == 2
    known = f'--resume {tmp_path / "epoch_1.pth"}' if iteration > 4 else 'no checkpoint yet'
    assert known in message
    assert '\n' not in message
    assert runner.iter == iteration


def test_a_finite_training_runs_to_its_end(tmp_path):
    hooks = [*SCHEDULES, dict(type='InvalidLossHook')]
    runner = runner_of(tmp_path, dataset=named_samples(), epochs=1, custom_hooks=hooks)
    runner.train()
    assert runner.iter == 4


def test_checkpoints_with_spoilt_weights_or_no_weights_are_passed_over(tmp_path):
    assert last_good_checkpoint(tmp_path) is None
    torch.save({'state_dict': {'a': torch.ones(2)}}, tmp_path / 'epoch_1.pth')
    torch.save({'state_dict': {'a': torch.tensor([1, torch.nan])}}, tmp_path / 'epoch_2.pth')
    (tmp_path / 'epoch_3.pth').write_bytes(b'half')
    assert last_good_checkpoint(tmp_path) == tmp_path / 'epoch_1.pth'


def test_files_are_unknown_where_samples_have_no_path():
    assert batch_files({'data_samples': samples(2)[:0]}) == []
    assert batch_files([torch.zeros(1)]) == []
