"""Checkpoints: ours load safely, others' pickles run no code, and none is ever half-written."""

import os
import pickle

import numpy as np
import pytest
import torch
from evil import Evil
from mmengine.fileio import get_file_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, save_checkpoint
from runs import SCHEDULES, runner_of

from las_mm.checkpoints.loading import TRUST


def load(path) -> dict:
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


def native(**extra) -> dict:
    """What mmengine itself saves: weights, a log history, NumPy scalars."""
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    hub = dict(log_scalars={'train/loss': history}, runtime_info=dict(lr=np.float64(0.1)))
    return dict(state_dict=dict(weight=torch.ones(2)), message_hub=hub, meta=dict(epoch=3), **extra)


def test_our_training_s_checkpoint_loads_safely(tmp_path):
    runner_of(tmp_path, epochs=1).train()
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert {'state_dict', 'optimizer', 'param_schedulers', 'message_hub', 'meta'} <= set(checkpoint)
    assert any('.masker.' in name for name in checkpoint['state_dict'])
    values, counts = checkpoint['message_hub']['log_scalars']['train/flops_ratio']
    assert len(values) == len(counts) == 4


def test_without_the_hook_a_checkpoint_still_loads_safely_by_us(tmp_path):
    runner_of(tmp_path, epochs=1, custom_hooks=SCHEDULES[:2]).train()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert any('.masker.' in name for name in load(tmp_path / 'epoch_1.pth')['state_dict'])


@pytest.mark.parametrize('legacy', [False, True])
def test_mmengine_s_own_checkpoint_loads_without_its_objects(tmp_path, legacy):
    path = tmp_path / 'native.pth'
    torch.save(native(), path, _use_new_zipfile_serialization=not legacy)
    checkpoint = load(path)
    assert checkpoint['state_dict']['weight'].tolist() == [1, 1]
    assert checkpoint['meta'] == dict(epoch=3)
    assert not isinstance(checkpoint['message_hub']['log_scalars']['train/loss'], HistoryBuffer)


@pytest.mark.parametrize('legacy', [False, True])
def test_a_pickle_that_executes_code_is_refused_and_does_not_execute(tmp_path, legacy):
    path, made = tmp_path / 'evil.pth', tmp_path / 'made'
    torch.save(native(evil=Evil(made)), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match='checkpoint: refused .*evil.pth.*mkdir') as error:
        load(path)
    assert '\n' not in str(error.value)
    assert '--trust-checkpoint' in str(error.value)
    assert not made.exists()


def test_objects_passed_over_cannot_be_called_to_do_harm(tmp_path):
    """getattr, which mmengine's checkpoints need, must not reach anything."""

    class Sneaky:
        def __reduce__(self):
            return getattr, (np.ndarray, 'tofile')

    torch.save(dict(weight=torch.ones(1), sneaky=Sneaky()), tmp_path / 'sneaky.pth')
    checkpoint = load(tmp_path / 'sneaky.pth')
    assert not callable(checkpoint['sneaky'])
    assert checkpoint['weight'].item() == 1


def test_trust_unpickles_everything(tmp_path, monkeypatch):
    path, made = tmp_path / 'trusted.pth', tmp_path / 'made'
    torch.save(native(evil=Evil(made)), path)
    for value in ('0', '', 'false'):
        monkeypatch.setenv(TRUST, value)
        with pytest.raises(ValueError, match='refused'):
            load(path)
    monkeypatch.setenv(TRUST, '1')
    history = load(path)['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert made.is_dir()


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_one_line(tmp_path, legacy, share):
    path = tmp_path / 'cut.pth'
    torch.save(native(), path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match='checkpoint: .*cut.pth') as error:
        load(path)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', [b'not a checkpoint', b'\x80\x02}q\x00.', b'PK\x03\x04'])
def test_another_file_is_one_line(tmp_path, content):
    (tmp_path / 'other.pth').write_bytes(content)
    with pytest.raises(ValueError, match='checkpoint: .*other.pth') as error:
        load(tmp_path / 'other.pth')
    assert '\n' not in str(error.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='checkpoint: no file .*no.pth'):
        load(tmp_path / 'no.pth')


def test_a_download_that_fails_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(FileNotFoundError, match='cannot be downloaded .*hub/checkpoints/net.pth'):
        load('http://127.0.0.1:9/net.pth')


def test_a_downloaded_pickle_is_not_trusted_either(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    folder, made = tmp_path / 'hub' / 'checkpoints', tmp_path / 'made'
    folder.mkdir(parents=True)
    torch.save(dict(evil=Evil(made)), folder / 'net.pth')
    with pytest.raises(ValueError, match='refused'):
        load('https://example.org/some/net.pth')
    assert not made.exists()


@pytest.mark.parametrize('failure', ['write', 'rename'])
def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch, failure):
    path = tmp_path / 'weights.pth'
    save_checkpoint(dict(weight=torch.zeros(3)), str(path))

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync' if failure == 'write' else 'replace', fail)
    with pytest.raises(OSError, match='No space left'):
        save_checkpoint(dict(weight=torch.ones(3)), str(path))
    assert load(path)['weight'].tolist() == [0, 0, 0]
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    save_checkpoint(dict(weight=torch.ones(3)), str(path))
    assert load(path)['weight'].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [path]


def test_text_files_and_folders_are_written_as_before(tmp_path):
    backend = get_file_backend(str(tmp_path))
    backend.put_text('äöü', tmp_path / 'new' / 'text')
    assert backend.get_text(tmp_path / 'new' / 'text') == 'äöü'
    assert (tmp_path / 'new' / 'text').stat().st_mode & 0o777 == 0o644
