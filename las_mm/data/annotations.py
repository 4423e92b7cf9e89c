"""Checks of COCO annotation files, before a framework stumbles over them."""

import json
import logging
from collections.abc import Sequence
from math import isfinite
from numbers import Real
from pathlib import Path

IMAGE_KEYS = ('id', 'file_name', 'height', 'width')
ANNOTATION_KEYS = ('id', 'image_id', 'category_id', 'bbox', 'area')


def check_coco(field: str, path: Path, classes: Sequence[str], test_mode: bool) -> None:
    """Check an annotation file in COCO's layout.

    Boxes without area and such outside of their images are logged with their number: mmdet leaves
    them out, and cuts those that reach beyond the image when it resizes them.

    Args:
        field: What the file is to the user, for errors.
        path: Of the file.
        classes: Names that the data set looks for; none means all.
        test_mode: Whether annotations may be missing.

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
        if not content[key]:
            raise ValueError(f'{field} has no {key}; give a file with at least one')
    names = [category.get('name') for category in content['categories']]
    if classes and not set(classes) & set(names):
        raise ValueError(
            f'{field} has the categories {names[:5]}, none of which is among the classes '
            f'{list(classes)[:5]} of the data set; set dataset.metainfo.classes'
        )
    _check_entries(field, 'images', content['images'], IMAGE_KEYS)
    annotations = content.get('annotations') or []
    _check_entries(field, 'annotations', annotations, ANNOTATION_KEYS)
    _check_boxes(field, content['images'], annotations)


def _check_entries(field: str, name: str, entries: list, keys: Sequence[str]) -> None:
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and entry.get('ignore'):
            continue
        missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise ValueError(f'{field}: entry {index} of {name} has no {missing[0]!r}; add it')


def _check_boxes(field: str, images: list[dict], annotations: list[dict]) -> None:
    sizes = {image['id']: (image['width'], image['height']) for image in images}
    empty = beyond = unused = 0
    for annotation in annotations:
        where = f'{field}: annotation {annotation["id"]}'
        if annotation['image_id'] not in sizes or annotation.get('ignore'):
            unused += 1
            continue
        box = annotation['bbox']
        numbers = isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))
        if not numbers:
            raise ValueError(f'{where} has bbox {box!r}; it must be four numbers: x, y, w, h')
        width, height = sizes[annotation['image_id']]
        x, y, w, h = box
        cut_w, cut_h = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
        if min(w, h) < 1 or min(cut_w, cut_h) <= 0 or annotation['area'] <= 0:
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


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and isfinite(value)
