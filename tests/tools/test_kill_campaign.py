"""A killed training loses nothing; and the campaign that says so would notice if it did."""

import subprocess
import sys

import pytest
import torch


@pytest.mark.parametrize(('loop', 'workers'), [('epoch', 2), ('iteration', 0)])
def test_killed_trainings_come_to_the_same_end(repo_root, tmp_path, loop, workers):
    command = [sys.executable, '-W', 'ignore', 'tools/misc/kill_campaign.py', '--kills', '2']
    command += ['--epochs', '2', '--loop', loop, '--workers', str(workers)]
    command += ['--work-dir', str(tmp_path / 'campaign')]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('kill ') == 2
    assert 'losses of all 12 iterations, weights and optimizer equal' in done.stdout


def test_the_campaign_sees_differences(load_tool):
    differences = load_tool('kill_campaign').differences
    first = {'loss': [torch.tensor([1.0, 2.0])], 'step': 3}
    assert differences(first, {'loss': [torch.tensor([1.0, 2.0])], 'step': 3}) == []
    assert differences(first, {'loss': [torch.tensor([1.0, 2.5])], 'step': 3}) == ['/loss/0']
    assert differences(first, {'loss': first['loss'], 'step': 4}) == ['/step']
    assert differences(first, {'loss': first['loss']}) == [": {'step'}"]


def test_the_campaign_sees_a_corrupt_checkpoint(load_tool, tmp_path):
    tool = load_tool('kill_campaign')
    torch.save({'meta': {'iter': 3}}, tmp_path / 'iter_3.pth')
    tool.check_files(tmp_path)
    (tmp_path / 'iter_4.pth').write_bytes((tmp_path / 'iter_3.pth').read_bytes()[:-20])
    with pytest.raises(ValueError, match='iter_4.pth: corrupt after a kill'):
        tool.check_files(tmp_path)


def test_wrong_arguments_are_refused(load_tool, tmp_path):
    tool = load_tool('kill_campaign')
    with pytest.raises(ValueError, match='--kills'):
        tool.main(['--kills', '0'])
    (tmp_path / 'other').touch()
    with pytest.raises(ValueError, match='--work-dir: .* is not empty'):
        tool.main(['--work-dir', str(tmp_path)])
