"""Write demo data in the two layouts that OpenMMLab reads: COCO files and class folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from .compose import Scene, compose_scene, one_window, plan_windows
from .sources import CLASSES, SPLITS, balanced, load_digits, load_photos

JPEG_QUALITY = 92
TASKS = ('detection', 'classification')
ATTRIBUTION = (
    'Digits: Optical Recognition of Handwritten Digits (UCI), as in scikit-learn. Photographs: '
    'scikit-learn (china.jpg by danielbuechele, flower.jpg by vultilion, both CC BY 2.0) and '
    'scikit-image (skimage.data).'
)


def make_scenes(task: str, split: str, count: int, size: int, seed: int) -> Iterator[Scene]:
    """Yield ``count`` scenes of ``size`` x ``size`` pixels; a larger count only appends to them."""
    rng = np.random.default_rng([seed, TASKS.index(task), SPLITS.index(split)])
    digits = balanced(load_digits(split), rng)
    photos = load_photos(split)
    plan = plan_windows if task == 'detection' else one_window
    for index in range(count):
        if index % len(photos) == 0:
            order = rng.permutation(len(photos))
        photo = photos[order[index % len(photos)]]
        yield compose_scene(photo, digits, plan(size, rng), size, rng)


def annotate(scene: Scene) -> list[dict]:
    """Return the COCO annotations of a scene, without ids.

    ``bbox`` is [x, y, width, height] of the pixels in the mask; ``segmentation`` is compressed
    RLE, because a digit may have holes, which polygons cannot say.
    """
    annotations = []
    for number, digit in enumerate(scene.digits, start=1):
        mask = scene.owner == number
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        x, y = int(columns[0]), int(rows[0])
        code = rle.encode(np.asfortranarray(mask, np.uint8))
        annotations.append(
            dict(
                category_id=digit.label + 1,
                bbox=[x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
                area=int(mask.sum()),
                segmentation=dict(size=code['size'], counts=code['counts'].decode('ascii')),
                iscrowd=0,
                digit_index=digit.index,
            )
        )
    return annotations


def write_detection(
    folder: Path, split: str, count: int, size: int, seed: int, tick: Callable[[], None]
) -> int:
    """Write ``<split>/*.jpg`` and ``annotations/instances_<split>.json``; return the objects."""
    images, annotations = [], []
    (folder / split).mkdir(parents=True)
    (folder / 'annotations').mkdir(exist_ok=True)
    for number, scene in enumerate(make_scenes('detection', split, count, size, seed), start=1):
        file_name = f'{number:06d}.jpg'
        Image.fromarray(scene.image).save(folder / split / file_name, quality=JPEG_QUALITY)
        images.append(
            dict(
                id=number,
                file_name=file_name,
                width=size,
                height=size,
                photo=scene.photo,
                crop=list(scene.crop),
            )
        )
        for annotation in annotate(scene):
            annotations.append(dict(id=len(annotations) + 1, image_id=number, **annotation))
        tick()
    content = dict(
        info=dict(description=f'Handwritten digits on photographs, {split}', about=ATTRIBUTION),
        licenses=[],
        images=images,
        annotations=annotations,
        categories=[
            dict(id=label + 1, name=name, supercategory='digit')
            for label, name in enumerate(CLASSES)
        ],
    )
    (folder / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
    return len(annotations)


def write_classification(
    folder: Path, split: str, count: int, size: int, seed: int, tick: Callable[[], None]
) -> int:
    """Write ``<split>/<class>/*.jpg``, one digit an image; return the number of objects."""
    for name in CLASSES:
        (folder / split / name).mkdir(parents=True)
    scenes = make_scenes('classification', split, count, size, seed)
    for number, scene in enumerate(scenes, start=1):
        path = folder / split / CLASSES[scene.digits[0].label] / f'{number:06d}.jpg'
        Image.fromarray(scene.image).save(path, quality=JPEG_QUALITY)
        tick()
    return count
