"""Files that are broken are named, unusual ones are trained on."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import TRANSFORMS
from runs import class_options, data_options

from las_mm.checkpoints.loading import latest_checkpoint
from las_mm.data.annotations import check_coco

STATIC = 'configs/faster_rcnn_r50_demo.py'
CLASSIFIER = 'configs/las_r50_4-4-2-1_demo.py'
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)


def encoded(extension: str, image: np.ndarray = IMAGE) -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


@pytest.fixture
def classes(demo_classes, tmp_path):
    """A copy of the class folders, to be spoilt."""
    for path in demo_classes.rglob('*.*'):
        target = tmp_path / 'data' / path.relative_to(demo_classes)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path / 'data'


# Images.

BROKEN = {
    'missing': (None, "image: no file 'IMAGE'; check data_root"),
    'empty': (b'', "image: 'IMAGE' is no image"),
    'text': (b'<html>not found</html>', "image: 'IMAGE' is no image"),
    'half a JPEG': (encoded('.jpg')[: len(encoded('.jpg')) // 2], "'IMAGE' is truncated"),
    'most of a JPEG': (encoded('.jpg')[:-10], "image: 'IMAGE' is truncated"),
    'half a PNG': (encoded('.png')[: len(encoded('.png')) // 2], "image: 'IMAGE' is truncated"),
    'start of a BMP': (encoded('.bmp')[:20], "image: 'IMAGE' is no image"),
}


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize(('content', 'message'), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_image_is_named(tmp_path, content, message, backend):
    path = tmp_path / 'image'
    if content is not None:
        path.write_bytes(content)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        load, lenient = (
            TRANSFORMS.build(
                dict(type='LoadImageFromFile', imdecode_backend=backend, ignore_empty=ignore)
            )
            for ignore in (False, True)
        )
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load(dict(img_path=str(path)))
    assert message.replace('IMAGE', str(path)) in str(error.value)
    assert lenient(dict(img_path=str(path))) is None


@pytest.mark.parametrize('channels', [1, 3])
def test_grey_and_16_bit_images_become_8_bit_colour(tmp_path, channels):
    image = IMAGE[..., 0] if channels == 1 else IMAGE
    with DefaultScope.overwrite_default_scope('mmdet'):
        load = TRANSFORMS.build(dict(type='LoadImageFromFile'))
    expected = np.repeat(IMAGE[..., :1], 3, -1) if channels == 1 else IMAGE
    for factor, dtype in ((1, np.uint8), (257, np.uint16)):
        path = tmp_path / 'image.png'
        path.write_bytes(encoded('.png', image.astype(dtype) * factor))
        results = load(dict(img_path=str(path)))
        assert results['img'].dtype == np.uint8
        np.testing.assert_array_equal(results['img'], expected)
        assert results['img_shape'] == (48, 40)


@pytest.mark.parametrize('workers', [0, 1])
def test_training_names_a_truncated_image(fail, classes, tmp_path, workers):
    path = sorted((classes / 'train').rglob('*.*'))[3]
    path.write_bytes(path.read_bytes()[:-30])
    options = [*class_options(classes), f'train_dataloader.num_workers={workers}']
    line = fail('train', CLASSIFIER, '--work-dir', tmp_path / 'w', '--cfg-options', *options)
    assert line == f'image: {str(path)!r} is truncated; get the file again'
    assert latest_checkpoint(tmp_path / 'w') is None


# Annotations.


def coco(**annotation) -> dict:
    whole = dict(id=7, image_id=1, category_id=1, bbox=[4, 4, 8, 8], area=64)
    image = dict(id=1, file_name='a.png', height=40, width=40)
    return dict(
        images=[image],
        categories=[dict(id=1, name='thing')],
        annotations=[{**whole, **annotation}],
    )


@pytest.mark.parametrize(
    ('annotation', 'message'),
    [
        (dict(bbox=[1, 2, 3]), 'annotation 7 has bbox .1, 2, 3.; it must be four numbers'),
        (dict(bbox=None), 'annotation 7 has bbox None'),
        (dict(bbox=[1, 2, 3, 'x']), "annotation 7 has bbox .1, 2, 3, 'x'"),
        (dict(bbox=[1, 2, 3, float('nan')]), 'annotation 7 has bbox .1, 2, 3, nan'),
    ],
)
def test_a_broken_annotation_is_named(tmp_path, annotation, message):
    path = tmp_path / 'ann.json'
    path.write_text(json.dumps(coco(**annotation)))
    with pytest.raises(ValueError, match=f'field: .*ann.json.: {message}') as error:
        check_coco('field', path, ['thing'], test_mode=False)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('annotation', 'empty', 'beyond'),
    [
        (dict(bbox=[4, 4, 0, 8]), 1, 0),
        (dict(bbox=[4, 4, -3, 8]), 1, 0),
        (dict(area=0), 1, 0),
        (dict(bbox=[50, 4, 8, 8]), 1, 0),
        (dict(bbox=[36, 4, 8, 8]), 0, 1),
        (dict(bbox=[-4, 4, 8, 8]), 0, 1),
        ({}, 0, 0),
    ],
)
def test_boxes_without_use_are_counted(tmp_path, caplog, annotation, empty, beyond):
    path = tmp_path / 'ann.json'
    path.write_text(json.dumps(coco(**annotation)))
    with caplog.at_level('WARNING', 'las_mm'):
        check_coco('field', path, ['thing'], test_mode=False)
    messages = [record.getMessage() for record in caplog.records]
    wanted = f'of 1 boxes, {empty} have no area within their image and are left out, and {beyond}'
    assert len(messages) == (empty or beyond)
    assert all(wanted in message for message in messages)


def test_training_and_testing_go_through_what_is_unusual_but_legal(demo_coco, tmp_path, run_tool):
    """Images without an object, grey ones, 16 bits, boxes without area and beyond the image."""
    data = tmp_path / 'data'
    for split in ('train', 'val'):
        name = f'annotations/instances_{split}.json'
        content = json.loads((demo_coco / name).read_text())
        content['images'] = content['images'][:4]
        first, second, third, fourth = content['images']
        keep = {first['id'], second['id'], third['id']}
        boxes = [a for a in content['annotations'] if a['image_id'] in keep]
        of_first = [a for a in boxes if a['image_id'] == first['id']]
        edge = first['width']
        boxes += [dict(of_first[0], id=10_000, bbox=[5, 5, 0, 9])]
        boxes += [dict(of_first[0], id=10_001, bbox=[edge - 9, edge - 9, 30, 30], area=900)]
        content['annotations'] = boxes
        (data / split).mkdir(parents=True)
        for image in content['images']:
            pixels = cv2.imread(str(demo_coco / split / image['file_name']))
            if image is second:
                pixels = pixels[..., 0]
            elif image is third:
                pixels = pixels.astype(np.uint16) * 257
            image['file_name'] = f'{image["id"]}.png'
            cv2.imwrite(str(data / split / image['file_name']), pixels)
        (data / 'annotations').mkdir(exist_ok=True)
        (data / name).write_text(json.dumps(content))
    options = [*data_options(data), 'train_cfg.max_epochs=1', 'default_hooks.logger.interval=1']
    run_tool('train', STATIC, '--work-dir', tmp_path / 'w', '--cfg-options', *options)
    checkpoint = torch.load(tmp_path / 'w' / 'epoch_1.pth', weights_only=True)
    losses = checkpoint['message_hub']['log_scalars']['train/loss'][0]
    assert len(losses) == 4
    assert losses.isfinite().all()
