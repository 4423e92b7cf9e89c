"""Checks of COCO annotation files, before a framework stumbles over them."""

import json
import logging
from collections.abc import Sequence
from math import isfinite
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Any, TypeGuard

IMAGE_KEYS = ('id', 'file_name', 'height', 'width')
ANNOTATION_KEYS = ('id', 'image_id', 'category_id')  # of all; those of images also have boxes


def check_coco(field: str, path: Path, classes: Sequence[str], test_mode: bool) -> None:
    """Check an annotation file in COCO's layout.

    Boxes without area and such outside of their images are logged with their number: mmdet leaves
    them out, and cuts those that reach beyond the image when it resizes them.

    Args:
        field: What the file is to the user, for errors.
        path: Of the file.
        classes: Names that the data set looks for; none means all.
        test_mode: Whether it is of use without objects, too, which is then logged.

    Raises:
        ValueError: If it is not JSON in COCO's layout, or nothing in it is of use.
    """
    field = f'{field}: {str(path)!r}'
    try:
        content = json.loads(path.read_bytes() or b'empty')
    except ValueError as error:
        raise ValueError(f'{field} is empty or broken ({error}); get the file again') from None
    for key in ['images', 'categories', *([] if test_mode else ['annotations'])]:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{field} is not in COCO's layout; it must hold a list {key!r}")
    annotations = content.get('annotations') or []
    if not content['images']:
        raise ValueError(f'{field} has no images; give a file with at least one')
    if lack := _lack_of_objects(content['categories'], annotations, classes):
        if not test_mode:
            raise ValueError(f'{field} {lack}')
        logging.getLogger('las_mm').warning('%s %s', field, lack)
    _check_entries(field, 'images', content['images'], IMAGE_KEYS)
    _check_entries(field, 'annotations', annotations, ANNOTATION_KEYS)
    _check_boxes(field, content['images'], annotations)


def _lack_of_objects(categories: list, annotations: list, classes: Sequence[str]) -> str | None:
    """Why no object of the classes is in a file, and what to do; None if one may be."""
    for name, entries in (('categories', categories), ('annotations', annotations)):
        if not entries:
            return (
                f'has no {name}; give a file with at least one, or tell the data set of images '
                'without objects: filter_cfg=dict(filter_empty_gt=False)'
            )
    names = [category.get('name') for category in categories if isinstance(category, dict)]
    if classes and not any(name in classes for name in names):
        return (
            f'has the categories {names[:5]}, none of which is among the classes '
            f'{list(classes)[:5]} of the data set; set dataset.metainfo.classes'
        )
    return None


def _check_entries(field: str, name: str, entries: list, keys: Sequence[str]) -> None:
    for index, entry in enumerate(entries):
        missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise ValueError(f'{field}: entry {index} of {name} has no {missing[0]!r}; add it')


def _check_boxes(field: str, images: list[dict], annotations: list[dict]) -> None:
    sizes = {_key(image['id']): (image['width'], image['height']) for image in images}
    empty = beyond = unused = 0
    for annotation in annotations:
        size = sizes.get(_key(annotation['image_id']))
        if size is None or annotation.get('ignore'):
            unused += 1
            continue
        x, y, w, h = _box(field, annotation)
        width, height = size
        if not (_is_finite(width) and _is_finite(height)):
            raise ValueError(
                f'{field}: image {annotation["image_id"]} has width {width!r} and height '
                f'{height!r}; they must be numbers'
            )
        cut_w, cut_h = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
        if min(w, h) < 1 or min(cut_w, cut_h) <= 0 or _area(field, annotation) <= 0:
            empty += 1
        elif cut_w < w - 1 or cut_h < h - 1:  # annotators round
            beyond += 1
    if empty or beyond:
        logging.getLogger('las_mm').warning(
            '%s: of %d boxes, %d have no area within their image and are left out, and %d reach '
            'beyond it and are cut',
            *(field, len(annotations), empty, beyond),
        )

    if unused:
        logging.getLogger('las_mm').warning(
            '%s: %d annotations are of images that are not among the images, or to be ignored',
            *(field, unused),
        )


def _key(identity: Any) -> Any:
    """An image's id, or what stands for one that is no key, such as a list."""
    return identity if isinstance(identity, (int, float, str, NoneType)) else repr(identity)


def _box(field: str, annotation: dict) -> list[float]:
    where = f'{field}: annotation {annotation["id"]}'
    if 'bbox' not in annotation:
        raise ValueError(f"{where} has no 'bbox'; add it")
    box = annotation['bbox']
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))):
        raise ValueError(f'{where} has bbox {box!r}; it must be four numbers: x, y, w, h')
    return box


def _area(field: str, annotation: dict) -> float:
    area = annotation.get('area')
    if not _is_finite(area):
        where = f'{field}: annotation {annotation["id"]}'
        raise ValueError(f'{where} has area {area!r}; it must be a number: pixels of the object')
    return area


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and isfinite(value)
