"""Every wrong input ends in one line that names the field, the value and what is allowed."""

import sys

import pytest
import torch
from detectors import build_model, two_stage
from evil import Evil
from runs import data_options

from las_mm.cli import one_line, run_cli

LAS = 'configs/faster_rcnn_las_r50_4-4-2-1_demo.py'
STATIC = 'configs/faster_rcnn_r50_demo.py'


@pytest.fixture(autouse=True)
def in_root(repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)


# What the model is made of.


@pytest.mark.parametrize(
    ('value', 'shown'),
    [
        ('4-4-7', "'4-4-7'"),
        ('4-4-2-0', "'4-4-2-0'"),
        ('4-4-2-x', "'4-4-2-x'"),
        ('4-4-2-1.5', "'4-4-2-1.5'"),
        ('[4,4,2]', '[4, 4, 2]'),
        ('[4,4,2,0]', '[4, 4, 2, 0]'),
        ('[4,4,2,1.5]', '[4, 4, 2, 1.5]'),
        ('[4,4,2,-1]', '[4, 4, 2, -1]'),
        ('4.5', '4.5'),
    ],
)
def test_granularity(train, value, shown):
    line = train(f'model.backbone.granularity={value}')
    assert line.startswith(
        f"granularity: got {shown}; give 4 integers >= 1, 'all' or None, one per stage"
    )


def test_granularity_larger_than_the_feature_map(train):
    line = train('model.backbone.granularity=4-4-2-64', 'custom_hooks=[]')
    assert line.startswith('granularity: block layer4.0 has S=64, larger than its 8x8 feature map;')
    assert 'choose S <= 8' in line


@pytest.mark.parametrize(
    ('option', 'wanted'),
    [
        ('model.backbone.depth=77', 'depth: got 77; choose one of 18, 34, 50, 101, 152'),
        ('model.backbone.executor=fast', "executor: got 'fast'; choose one of dense"),
        ('custom_hooks.0.start=-1', 'start: got -1; it must be a temperature > 0'),
        ('custom_hooks.1.target=0', 'target: got 0; it must be in (0, 1], such as 0.5'),
        ('custom_hooks.1.target=1.01', 'target: got 1.01; it must be in (0, 1]'),
        ('custom_hooks.1.target=half', "target: got 'half'; it must be in (0, 1]"),
        ('custom_hooks.1.alpha=-1', 'alpha: got -1; it must be >= 0'),
        ('custom_hooks.1.bounded=all', "bounded: got 'all'; choose one of activation_rate"),
        ('custom_hooks.2.checkpoint=None', 'checkpoint: got None; a teacher needs trained weights'),
        ('custom_hooks.2.checkpoint=no.pth', "checkpoint: no file 'no.pth'; check the path"),
        ('custom_hooks.2.teacher=no.py', "teacher: no file 'no.py'; "),
    ],
)
def test_options(train, option, wanted):
    assert train(option).startswith(wanted)


def test_precision(fail, demo_coco, tmp_path, checkpoint_of):
    argv = [LAS, checkpoint_of(50), '--work-dir', tmp_path / 'work']
    for extra, wanted in (
        (['--precision', 'fp8'], "precision: got 'fp8'; choose one of fp32, bf16, int8, auto"),
        (['--precision', 'bf16', '--executor', 'dense'], "--precision: got 'bf16' with --executor"),
    ):
        line = fail('test', *argv, *extra, '--cfg-options', *data_options(demo_coco))
        assert line.startswith(wanted)


def test_device(train, fail, demo_coco, tmp_path, checkpoint_of):
    assert "device: got 'v1000'; choose one of" in train('custom_hooks.3.devices=[v1000]')
    argv = [LAS, checkpoint_of(50), '--devices', 'v1000', '--work-dir', tmp_path / 'work']
    line = fail('test', *argv, '--cfg-options', *data_options(demo_coco))
    assert "device: got 'v1000'; choose one of" in line
    assert 'v100, ' in line


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU, so --amp is not an error')
def test_mixed_precision_without_a_gpu(train):
    assert train(argv=['--amp']).startswith('--amp: mixed precision needs a GPU')


def test_automatic_rate_without_a_base(train):
    assert train(argv=['--auto-scale-lr']).startswith('--auto-scale-lr: the config has no')


# Files.


@pytest.fixture
def checkpoint_of(tmp_path):
    """A function that writes a detector's checkpoint whose backbone has some depth."""

    def write(depth: int):
        cfg = two_stage()
        cfg.backbone.depth = depth
        cfg.neck.in_channels = [edge * (4 if depth > 34 else 1) for edge in (8, 16, 32, 64)]
        path = tmp_path / f'depth{depth}.pth'
        torch.save(dict(state_dict=build_model(cfg).state_dict(), meta={}), path)
        return path

    return write


def test_config(fail, repo_root):
    for tool, more in (('train', []), ('test', ['x.pth'])):
        line = fail(tool, 'configs/none.py', *more)
        assert line.startswith(f"config: no file 'configs/none.py'; see {repo_root}/configs for")
        line = fail(tool, 'las_r50_4-4-2-1.py', *more)
        assert line == "config: no file 'las_r50_4-4-2-1.py'; did you mean las_r50_4-4-2-1_demo?"


def test_checkpoint_to_test(fail, demo_coco, tmp_path, checkpoint_of):
    def test(path) -> str:
        argv = [LAS, path, '--work-dir', tmp_path / 'work', '--cfg-options']
        return fail('test', *argv, *data_options(demo_coco))

    assert test('no.pth') == "checkpoint: no file 'no.pth'; check the path"
    assert test(checkpoint_of(18)).startswith(
        'checkpoint: its backbone has 2-2-2-2 blocks per stage, the LASResNet has 3-4-6-3; '
    )
    assert 'has shape' in test(checkpoint_of(34))
    torch.save(dict(evil=Evil(tmp_path / 'made')), tmp_path / 'evil.pth')
    assert 'refused' in (line := test(tmp_path / 'evil.pth'))
    assert '--trust-checkpoint' in line
    assert not (tmp_path / 'made').exists()
    (tmp_path / 'cut.pth').write_bytes(checkpoint_of(18).read_bytes()[:1000])
    assert 'is truncated or not a checkpoint' in test(tmp_path / 'cut.pth')
    assert not (tmp_path / 'work' / 'latency_report.json').exists()


def test_checkpoint_to_start_or_resume_from(train, checkpoint_of):
    static, las = checkpoint_of(18), checkpoint_of(18)
    distillation = f'custom_hooks.2.checkpoint={static}'
    for argv, options in (
        ([], [f'load_from={las}']),
        (['--resume', las], []),
    ):
        line = train(*options, distillation, argv=argv)
        assert 'checkpoint: ' in line
        assert 'does not fit the teacher' in line or 'give a checkpoint of the same depth' in line
    assert train(argv=['--resume', 'no.pth']) == "checkpoint: no file 'no.pth'; check the path"


def test_predictions_file(fail, demo_coco, tmp_path, checkpoint_of):
    argv = [LAS, checkpoint_of(50), '--work-dir', tmp_path / 'work', '--out', 'x.json']
    line = fail('test', *argv, '--cfg-options', *data_options(demo_coco))
    assert line == "--out: got 'x.json'; it must end in .pkl or .pickle"


# The frame around it.


def test_help_names_every_flag(load_tool, monkeypatch, capsys):
    flags = {
        'train': ['--work-dir', '--resume', '--amp', '--auto-scale-lr', '--cfg-options'],
        'test': ['--work-dir', '--out', '--show-dir', '--tta', '--devices', '--cfg-options'],
    }
    for tool, wanted in flags.items():
        monkeypatch.setattr(sys, 'argv', [f'tools/{tool}.py', '--help'])
        with pytest.raises(SystemExit) as stop:
            load_tool(tool).main()
        assert stop.value.code == 0
        printed = capsys.readouterr().out
        assert not [flag for flag in [*wanted, '--launcher'] if flag not in printed]


def test_debugging_shows_the_traceback(monkeypatch):
    def broken() -> None:
        raise ValueError('field: wrong')

    monkeypatch.setenv('LAS_MM_DEBUG', '1')
    with pytest.raises(ValueError, match='field: wrong'):
        run_cli(broken)


def test_an_interruption_is_no_error(capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_cli(interrupted)
    assert stop.value.code == 130
    assert capsys.readouterr().err == 'interrupted; go on with --resume\n'


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (KeyError('X is not in the registry'), 'X is not in the registry'),
        (ValueError('class `A` in a/b.py: class `B` in c.py: field: wrong'), 'field: wrong'),
        (ValueError('two\n  lines'), 'two lines'),
        (ValueError(), 'ValueError'),
        (
            OSError(28, 'No space left on device', 'a.json'),
            "No space left on device: 'a.json' cannot be written; make room, then go on with "
            '--resume',
        ),
        (
            OSError(27, 'File too large'),
            'File too large: the log, or another file cannot be written; make room, then go on '
            'with --resume',
        ),
        (
            FileNotFoundError(
                'Caught FileNotFoundError in DataLoader worker process 0.\nOriginal Traceback '
                '(most recent call last):\n  File "x.py", line 1\nFileNotFoundError: no a.jpg\n'
            ),
            'no a.jpg',
        ),
    ],
)
def test_one_line(error, line):
    assert one_line(error) == line
