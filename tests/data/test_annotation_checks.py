"""An annotation file that mmdet reads passes our check; what cannot be read is named in a line."""

import json
from copy import deepcopy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset

from las_mm.data.annotations import check_coco

CLASSES = ('cat', 'dog')
CONTENT = dict(
    images=[dict(id=n, file_name=f'{n}.jpg', height=40, width=50) for n in (1, 2)],
    categories=[dict(id=n + 1, name=name) for n, name in enumerate(CLASSES)],
    annotations=[
        dict(id=7, image_id=1, category_id=1, bbox=[4, 4, 8, 8], area=64, iscrowd=0),
        dict(id=8, image_id=1, category_id=2, bbox=[60, 4, 8, 8], area=64),
        dict(id=9, image_id=3, category_id=2, bbox=[4, 4, 8, 8], area=64, ignore=1),
    ],
)
LISTS = st.sampled_from(sorted(CONTENT))
KEYS = ('id', 'file_name', 'height', 'width', 'name', 'image_id', 'category_id', 'bbox', 'area')
VALUES = st.sampled_from(
    [None, 'x', 'cat', 0, 1, -1, 2.5, [], {}, [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 'x'], True]
)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just('list'), LISTS, st.sampled_from(['gone', [], None, [1], [[]]])),
        st.tuples(st.just('drop'), LISTS, st.integers(0, 2), st.sampled_from([*KEYS, 'iscrowd'])),
        st.tuples(st.just('set'), LISTS, st.integers(0, 2), st.sampled_from(KEYS), VALUES),
        st.tuples(st.just('set'), LISTS, st.integers(0, 2), st.just('ignore'), st.booleans()),
    ),
    min_size=1,
    max_size=3,
)


def changed(changes: list[tuple]) -> dict:
    """The content with some of it taken out or replaced."""
    content = deepcopy(CONTENT)
    for kind, name, *rest in changes:
        if kind == 'list':
            content[name] = rest[0]
            if rest[0] == 'gone':
                del content[name]
            continue
        entries = content.get(name)
        if not isinstance(entries, list) or len(entries) <= rest[0]:
            continue
        entry = entries[rest[0]]
        if isinstance(entry, dict) and kind == 'drop':
            entry.pop(rest[1], None)
        elif isinstance(entry, dict):
            entry[rest[1]] = rest[2]
    return content


def mmdet_reads(path, **options) -> bool:
    try:
        CocoDataset(
            ann_file=str(path),
            data_prefix=dict(img='images'),
            metainfo=dict(classes=CLASSES),
            pipeline=[],
            **options,
        )
    except Exception:
        return False
    return True


def complaint(path, test_mode: bool) -> str | None:
    """What our check says, in one line."""
    try:
        check_coco('field', path, CLASSES, test_mode=test_mode)
    except ValueError as error:
        assert '\n' not in str(error) and str(error).startswith(f"field: '{path}'")
        return str(error)
    return None


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return tmp_path_factory.mktemp('coco') / 'annotations.json'


@settings(max_examples=120)
@given(changes=CHANGES, test_mode=st.booleans())
@example(changes=[('list', 'annotations', 'gone')], test_mode=True)
@example(changes=[('list', 'categories', [])], test_mode=True)
@example(changes=[('drop', 'annotations', 2, 'bbox')], test_mode=False)
@example(changes=[('drop', 'annotations', 1, 'area')], test_mode=False)
def test_what_mmdet_reads_passes(path, changes, test_mode):
    path.write_text(json.dumps(changed(changes)))
    said = complaint(path, test_mode)
    if said and mmdet_reads(path, test_mode=test_mode):
        useless = ('has no images', 'has no categories', 'has no annotations', 'none of which')
        without_objects = not test_mode and any(words in said for words in useless[1:])
        missing = not test_mode and "hold a list 'annotations'" in said
        assert without_objects or missing or useless[0] in said, said


@settings(max_examples=50)
@given(changes=CHANGES)
def test_what_passes_is_read_by_mmdet(path, changes):
    """But for what no check of one entry after the other sees."""
    content = changed(changes)
    path.write_text(json.dumps(content))
    if complaint(path, False) is None:
        ids = [json.dumps(entry['id']) for entry in content['annotations']]
        known = {json.dumps(entry['id']) for entry in content['images']}
        odd = [c for c in changes if c[0] == 'set' and c[3] not in ('bbox', 'area')]
        listed = [c for c in changes if c[0] == 'list' and c[1] == 'categories']
        dropped = [c for c in changes if c[1] == 'categories']
        if not odd and not listed and not dropped and len(set(ids)) == len(ids) and known:
            assert mmdet_reads(path)


@pytest.mark.parametrize('key', sorted(CONTENT))
@pytest.mark.parametrize('value', ['gone', []])
def test_files_of_images_alone_are_of_use_for_tests(path, key, value, caplog):
    path.write_text(json.dumps(changed([('list', key, value)])))
    with caplog.at_level('WARNING', 'las_mm'):
        said = complaint(path, True)
    assert (said is None) == mmdet_reads(path, test_mode=True) or key == 'images'
    assert said or any(f'has no {key}' in r.getMessage() for r in caplog.records)
