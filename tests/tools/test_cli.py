"""Every wrong input ends in one line that names the field, the value and what is allowed."""

import json
import sys

import pytest
import torch
from detectors import build_model, two_stage
from evil import Evil
from mmengine.config import Config
from runs import data_options

from las_mm.cli import one_line, run_cli
from las_mm.data.datasets import check_annotations, require_data

LAS = 'configs/faster_rcnn_las_r50_4-4-2-1_demo.py'
STATIC = 'configs/faster_rcnn_r50_demo.py'


@pytest.fixture
def train(fail, tmp_path, demo_coco):
    """Run a training of the demo's detector on tiny data that must fail; returns its line."""

    def train(*options, argv=(), data=demo_coco, config=LAS, lines=1) -> str:
        shared = ['--work-dir', tmp_path / 'work', *argv, '--cfg-options']
        return fail('train', config, *shared, *data_options(data), *options, lines=lines)

    return train


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
        ('4', '4'),
    ],
)
def test_granularity(train, value, shown):
    line = train(f'model.backbone.granularity={value}')
    assert line.startswith(
        f"granularity: got {shown}; give 4 integers >= 1, or 'all', one per stage"
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


def test_device(train, fail, demo_coco, tmp_path, checkpoint_of):
    assert "device 'v1000' is unknown" in train('custom_hooks.3.devices=[v1000]')
    argv = [LAS, checkpoint_of(50), '--devices', 'v1000', '--work-dir', tmp_path / 'work']
    line = fail('test', *argv, '--cfg-options', *data_options(demo_coco))
    assert "device 'v1000' is unknown" in line
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


# Data.


def test_missing_data_says_how_to_get_it_in_two_lines(train, tmp_path, repo_root):
    root = tmp_path / 'demo_not_made'
    what, how = train(data=root, config=STATIC, lines=2).split('\n')
    missing = root / 'annotations' / 'instances_train.json'
    assert what == (
        f'train_dataloader.dataset: {str(missing)!r} is missing; expected the demo data in {root}'
    )
    assert how == (f'make them: python tools/make_demo_dataset.py --task detection --out {root}')
    cfg = Config.fromfile(repo_root / 'configs' / 'faster_rcnn_las_r101_4-4-7-1.py')
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'coco')
    with pytest.raises(FileNotFoundError, match='expected COCO with train2017/, val2017/ and') as e:
        require_data(cfg, 'train_dataloader')
    assert e.value.hint.startswith('get it from https://cocodataset.org and put or link it there,')
    assert 'or run the demo: make demo' in e.value.hint


def test_missing_and_empty_class_folders_are_named(tmp_path):
    dataset = dict(type='ImageNet', data_root=str(tmp_path), data_prefix='train')
    cfg = Config(dict(loader=dict(dataset=dict(type='RepeatDataset', dataset=dataset))))
    with pytest.raises(FileNotFoundError, match="train' is missing; expected ImageNet") as error:
        require_data(cfg, 'loader')
    assert 'https://image-net.org' in error.value.hint
    (tmp_path / 'train').mkdir()
    with pytest.raises(FileNotFoundError, match="train' is empty; expected ImageNet"):
        require_data(cfg, 'loader')


def copy_of(data, target, spoil) -> None:
    """The demo data with another annotation file for training."""
    target.mkdir()
    for split in ('train', 'val'):
        (target / split).symlink_to(data / split)
    (target / 'annotations').mkdir()
    for split in ('train', 'val'):
        name = f'annotations/instances_{split}.json'
        content = (data / name).read_text()
        (target / name).write_text(spoil(content) if split == 'train' else content)


def without(key: str):
    """Spoil an annotation file by emptying one of its lists."""
    return lambda content: json.dumps({**json.loads(content), key: []})


def renamed(content: str) -> str:
    """Spoil an annotation file by other categories."""
    content = json.loads(content)
    for category in content['categories']:
        category['name'] = f'thing {category["name"]}'
    return json.dumps(content)


BROKEN = {
    'empty file': (lambda content: '', 'is empty or broken'),
    'half a file': (lambda content: content[: len(content) // 2], 'is empty or broken'),
    'another file': (lambda content: '<html>', 'is empty or broken'),
    'a list': (lambda content: '[]', "is not in COCO's layout; it must hold a list 'images'"),
    'an empty object': (lambda content: '{}', "it must hold a list 'images'"),
    'no images': (without('images'), 'has no images; give a file with at least one'),
    'no annotations': (without('annotations'), 'has no annotations; give'),
    'no categories': (without('categories'), 'has no categories; give'),
    'other categories': (renamed, 'none of which is among the classes'),
    'no file name': (lambda content: content.replace('file_name', 'file'), "has no 'file_name'"),
}


@pytest.mark.parametrize(('spoil', 'message'), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_annotation_file_is_named(train, tmp_path, demo_coco, spoil, message):
    copy_of(demo_coco, tmp_path / 'data', spoil)
    line = train(data=tmp_path / 'data', config=STATIC)
    assert line.startswith('train_dataloader.dataset.ann_file: ')
    assert 'instances_train.json' in line
    assert message in line


def test_a_missing_image_is_named(train, tmp_path, demo_coco):
    copy_of(demo_coco, tmp_path / 'data', lambda content: content.replace('.jpg', '.jpeg'))
    assert '.jpeg' in train(data=tmp_path / 'data', config=STATIC)


def test_other_data_sets_are_left_to_their_framework(tmp_path):
    cfg = Config(dict(loader=dict(dataset=dict(type='CustomDataset', data_root=str(tmp_path)))))
    assert check_annotations(cfg, 'loader') is None
    assert check_annotations(cfg, 'absent') is None


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


@pytest.fixture(autouse=True)
def in_root(repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)


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
