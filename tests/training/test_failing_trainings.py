"""A full disk harms nothing, and a loss that is no number stops a training."""

import resource
from contextlib import contextmanager

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from runs import class_options

from las_mm.checkpoints.loading import latest_checkpoint

CLASSIFIER = 'configs/las_r50_4-4-2-1_demo.py'

# A full disk.


@contextmanager
def largest_file(size: int):
    """No file may grow beyond ``size`` bytes, as on a disk with as much room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small(demo_classes, tmp_path) -> list:
    """Arguments of a tool for a narrow classifier."""
    argv = [CLASSIFIER, '--work-dir', tmp_path / 'w', '--cfg-options']
    argv += ['model.backbone.depth=18', 'model.backbone.base_channels=8']
    argv += ['model.backbone.stem_channels=8', 'model.head.in_channels=64']
    return [*argv, 'train_cfg.val_interval=9', *class_options(demo_classes)]


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(fail, run_tool, small, tmp_path):
    work = tmp_path / 'w'
    run_tool('train', *small, 'train_cfg.max_epochs=1')
    before = (work / 'epoch_1.pth').read_bytes()
    longer = [*small, 'train_cfg.max_epochs=2', 'resume=True', f'load_from={work}/epoch_1.pth']
    with largest_file(300_000):
        line = fail('train', *longer)
    assert line.startswith(f"'{work}/epoch_2.pth' cannot be written (File too large); make room")
    assert (work / 'epoch_1.pth').read_bytes() == before
    assert latest_checkpoint(work) == work / 'epoch_1.pth'
    assert not list(work.glob('.*'))
    run_tool('train', *longer)
    assert latest_checkpoint(work) == work / 'epoch_2.pth'


@HOOKS.register_module()
class NoRoomHook(Hook):
    """From the end of a test on, files may not grow beyond 100 bytes."""

    priority = 'VERY_HIGH'

    def after_test_epoch(self, runner, metrics=None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))


def test_a_report_that_does_not_fit_leaves_the_one_before(fail, run_tool, small, tmp_path):
    work = tmp_path / 'w'
    run_tool('train', *small, 'train_cfg.max_epochs=1')
    (work / 'latency_report.json').write_text('{"of": "an earlier test"}')
    argv = [small[0], work / 'epoch_1.pth', *small[1:], 'custom_hooks.3.type=NoRoomHook']
    with largest_file(resource.RLIM_INFINITY):
        line = fail('test', *argv)
    assert line.startswith(f"'{work}/latency_report.json' cannot be written (File too large);")
    assert (work / 'latency_report.json').read_text() == '{"of": "an earlier test"}'
    assert not list(work.glob('.*'))


# A loss that is no number.


@HOOKS.register_module()
class SpoilWeightHook(Hook):
    """Makes a weight NaN before an iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == 5:
            next(runner.model.head.parameters()).data[0] = float('nan')


def test_a_loss_that_is_no_number_stops_training(fail, demo_classes, tmp_path, repo_root):
    work = tmp_path / 'w'
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{repo_root / CLASSIFIER}'\n"
        "custom_hooks = [*_base_.custom_hooks, dict(type='SpoilWeightHook')]\n"
    )
    options = [*class_options(demo_classes), 'train_cfg.val_interval=99']
    line = fail('train', config, '--work-dir', work, '--cfg-options', *options)
    assert line.startswith('loss: loss not finite in iteration 6 (epoch 2); files of the batch: ')
    files = line.partition('batch: ')[2].partition(';')[0].split(', ')
    assert len(files) == 5
    known = {str(path) for path in demo_classes.rglob('train/*/*.*')}
    assert set(files) <= known
    assert f'go on with --resume {work / "epoch_1.pth"}' in line
    assert latest_checkpoint(work) == work / 'epoch_1.pth'
