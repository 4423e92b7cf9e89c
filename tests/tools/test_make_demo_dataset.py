"""The demo data are real, disjoint, exact, repeatable, and never destroy what is not theirs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

SMALL = ['--train', '4', '--val', '3', '--size', '96']


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('make_demo_dataset')


def read(folder: Path, split: str) -> dict:
    return json.loads((folder / 'annotations' / f'instances_{split}.json').read_text())


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize('task', ['detection', 'classification'])
def test_same_options_give_same_bytes_and_another_seed_others(tool, tmp_path, task):
    for name, seed in (('a', '3'), ('b', '3'), ('c', '4')):
        argv = ['--task', task, '--out', str(tmp_path / name), '--seed', seed, *SMALL]
        assert tool.main(argv) == 0
    a, b, c = (contents(tmp_path / name) for name in 'abc')
    assert a == b
    assert a != c


def test_images_have_the_number_and_size_asked_for(demo_coco):
    for split, count in (('train', 8), ('val', 4)):
        images = read(demo_coco, split)['images']
        files = sorted(path.name for path in (demo_coco / split).iterdir())
        assert files == [image['file_name'] for image in images]
        assert len(files) == count
        for image in images:
            with Image.open(demo_coco / split / image['file_name']) as picture:
                assert picture.size == (image['width'], image['height']) == (128, 128)
                assert picture.mode == 'RGB'


def test_a_larger_set_begins_with_the_smaller_one(tool, tmp_path):
    for count in (2, 4):
        argv = ['--out', str(tmp_path / str(count)), '--train', str(count), '--val', '1']
        assert tool.main([*argv, '--size', '96']) == 0
    few, more = read(tmp_path / '2', 'train'), read(tmp_path / '4', 'train')
    assert more['images'][:2] == few['images']
    assert more['annotations'][: len(few['annotations'])] == few['annotations']


def test_boxes_and_areas_are_exactly_those_of_the_masks(demo_coco):
    coco = COCO(demo_coco / 'annotations' / 'instances_train.json')
    assert len(coco.anns) > 8
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        rows, columns = np.nonzero(mask)
        x, y, width, height = annotation['bbox']
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
        assert annotation['area'] == mask.sum()


def test_no_two_digits_share_a_pixel_and_each_image_has_some_background(demo_coco):
    coco = COCO(demo_coco / 'annotations' / 'instances_train.json')
    for image in coco.getImgIds():
        masks = [coco.annToMask(a) for a in coco.loadAnns(coco.getAnnIds(imgIds=image))]
        assert 1 <= len(masks) <= 6
        covered = np.sum(masks, axis=0)
        assert covered.max() == 1
        assert 0.01 < covered.mean() < 0.30


def test_digits_show_on_the_picture_where_the_mask_says(demo_coco):
    """Inside its mask a digit is one colour that differs from the photograph around it."""
    coco = COCO(demo_coco / 'annotations' / 'instances_train.json')
    luma = np.array([0.299, 0.587, 0.114]) / 255
    differences = []
    for annotation in coco.anns.values():
        name = coco.imgs[annotation['image_id']]['file_name']
        picture = np.asarray(Image.open(demo_coco / 'train' / name)) @ luma
        mask = coco.annToMask(annotation).astype(bool)
        x, y, width, height = annotation['bbox']
        window = np.s_[y : y + height, x : x + width]
        inside, outside = picture[window][mask[window]], picture[window][~mask[window]]
        if outside.size:
            differences.append(abs(np.median(inside) - np.median(outside)))
    assert np.median(differences) > 0.2


def test_no_digit_image_is_in_both_splits(load_tool):
    load_tool('make_demo_dataset')  # makes demo_data importable
    from demo_data.sources import load_digits

    rows, pixels = {}, {}
    for split in ('train', 'val'):
        digits = [digit for pool in load_digits(split) for digit in pool]
        rows[split] = {digit.index for digit in digits}
        pixels[split] = {digit.pixels.tobytes() for digit in digits}
    assert rows['train'].isdisjoint(rows['val'])
    assert pixels['train'].isdisjoint(pixels['val'])
    assert len(rows['train']) + len(rows['val']) == 1797


def test_the_digits_drawn_are_those_of_their_split_and_class(demo_coco):
    from sklearn.datasets import load_digits

    target = load_digits().target
    used = {split: read(demo_coco, split)['annotations'] for split in ('train', 'val')}
    for annotations in used.values():
        for annotation in annotations:
            assert target[annotation['digit_index']] == annotation['category_id'] - 1
    indices = {split: {a['digit_index'] for a in used[split]} for split in used}
    assert indices['train'].isdisjoint(indices['val'])


def test_no_pixel_of_a_photograph_is_behind_both_splits(tool, tmp_path):
    argv = ['--out', str(tmp_path / 'd'), '--train', '60', '--val', '60', '--size', '64']
    assert tool.main(argv) == 0
    squares = {split: read(tmp_path / 'd', split)['images'] for split in ('train', 'val')}
    for one in squares['train']:
        for other in squares['val']:
            if one['photo'] == other['photo']:
                (x, y, edge), (u, v, e) = one['crop'], other['crop']
                assert x + edge <= u or u + e <= x or y + edge <= v or v + e <= y


def test_classes_are_balanced(tool, tmp_path):
    argv = ['--out', str(tmp_path / 'd'), '--train', '30', '--val', '1', '--size', '96']
    assert tool.main(argv) == 0
    labels = [a['category_id'] for a in read(tmp_path / 'd', 'train')['annotations']]
    counts = np.bincount(labels, minlength=11)[1:]
    assert counts.max() - counts.min() <= 1
    names = [category['name'] for category in read(tmp_path / 'd', 'train')['categories']]
    assert names == list('0123456789')


def test_class_folders_load_in_mmpretrain(demo_classes):
    from mmpretrain.datasets import CustomDataset

    for split, count in (('train', 20), ('val', 10)):
        dataset = CustomDataset(data_root=str(demo_classes), data_prefix=split)
        assert ''.join(dataset.CLASSES) == '0123456789'
        assert np.bincount(dataset.get_gt_labels()).tolist() == [count // 10] * 10


def test_detection_set_loads_in_mmdet_with_masks(demo_coco):
    from mmdet.datasets import CocoDataset
    from mmdet.utils import register_all_modules

    register_all_modules()
    dataset = CocoDataset(
        data_root=str(demo_coco),
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        metainfo=dict(classes=tuple('0123456789')),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs'),
        ],
        test_mode=True,
    )
    assert len(dataset) == 4
    truth = dataset[0]['data_samples'].gt_instances
    expected = [a for a in read(demo_coco, 'val')['annotations'] if a['image_id'] == 1]
    assert truth.labels.tolist() == [a['category_id'] - 1 for a in expected]
    assert truth.masks.masks.sum((1, 2)).tolist() == [a['area'] for a in expected]


def test_own_output_is_replaced_as_a_whole(tool, tmp_path):
    out = tmp_path / 'd'
    assert tool.main(['--out', str(out), *SMALL]) == 0
    assert tool.main(['--out', str(out), '--train', '2', '--val', '1', '--size', '96']) == 0
    assert sorted(path.name for path in (out / 'train').iterdir()) == ['000001.jpg', '000002.jpg']
    assert [path.name for path in tmp_path.iterdir()] == ['d']


def test_foreign_directory_is_kept_unless_forced(tool, tmp_path, capsys):
    out = tmp_path / 'd'
    out.mkdir()
    (out / 'thesis.txt').write_text('years of work')
    assert tool.main(['--out', str(out), *SMALL]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert str(out) in error and '--force' in error
    assert (out / 'thesis.txt').read_text() == 'years of work'
    assert tool.main(['--out', str(out), '--force', *SMALL]) == 0
    assert not (out / 'thesis.txt').exists()


def test_the_current_directory_is_never_replaced(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tool.main(['--out', '.', '--force', *SMALL]) == 2
    assert 'current directory' in capsys.readouterr().err


def test_a_failure_half_way_leaves_the_old_set_and_nothing_else(tool, tmp_path, monkeypatch):
    out = tmp_path / 'd'
    assert tool.main(['--out', str(out), *SMALL]) == 0
    before = contents(out)
    from demo_data import layouts

    def full_disk(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(layouts, 'annotate', full_disk)
    assert tool.main(['--out', str(out), '--seed', '9', *SMALL]) == 2
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ['d']


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (['--train', '0'], '--train is 0'),
        (['--val', '-1'], '--val is -1'),
        (['--size', '63'], '--size is 63'),
        (['--seed', '-5'], '--seed is -5'),
        (['--task', 'segmentation'], "'detection', 'classification'"),
        (['--train', 'many'], "'many'"),
    ],
)
def test_a_wrong_option_is_one_line_with_status_2(tool, tmp_path, capsys, options, named):
    with pytest.raises(SystemExit) as stop:
        tool.main(['--out', str(tmp_path / 'd'), *options])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert named in error
    assert not (tmp_path / 'd').exists()


def test_help_explains_every_option(repo_root):
    command = [sys.executable, str(repo_root / 'tools' / 'make_demo_dataset.py'), '--help']
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for option in ('--task', '--out', '--seed', '--train', '--val', '--size', '--force'):
        assert option in text
