"""Data that are missing or broken end in a line that names them and says what is expected."""

import json

import pytest
from mmengine.config import Config

from las_mm.data.datasets import check_annotations, require_data

STATIC = 'configs/faster_rcnn_r50_demo.py'


@pytest.fixture(autouse=True)
def in_root(repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)


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
