"""Errors about data sets that say which file is missing or broken, and what to do."""

import json
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS


def require_data(cfg: Config, *loaders: str) -> None:
    """Check that the data sets of the named data loaders are there and of use.

    Raises:
        FileNotFoundError: If a file or folder is missing; says how to get it.
        ValueError: If an annotation file is broken.
    """
    for loader in loaders:
        dataset = _dataset(cfg, loader)
        root = Path(dataset.get('data_root') or '.')
        folders = dataset.get('data_prefix') or {}
        folders = [folders] if isinstance(folders, str) else list(folders.values())
        for part in (dataset.get('ann_file') or '', *folders, ''):
            if not (root / part).exists():
                raise FileNotFoundError(_how_to_get(loader, root / part))
        check_annotations(cfg, loader)


def check_annotations(cfg: Config, loader: str) -> None:
    """Check the COCO annotation file of a data loader; another data set's passes.

    Raises:
        ValueError: If it is not JSON in COCO's layout, or nothing in it is of use.
    """
    dataset = _dataset(cfg, loader)
    path = Path(dataset.get('data_root') or '.', dataset.get('ann_file') or '')
    if 'Coco' not in str(dataset.get('type')) or not path.is_file():
        return
    field = f'{loader}.dataset.ann_file: {str(path)!r}'
    try:
        content = json.loads(path.read_bytes() or b'empty')
    except ValueError as error:
        raise ValueError(f'{field} is empty or broken ({error}); get the file again') from None
    # A test set may come without annotations.
    needed = ['images', 'categories', *([] if dataset.get('test_mode') else ['annotations'])]
    for key in needed:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{field} is not in COCO's layout; it must hold a list {key!r}")
        if not content[key]:
            raise ValueError(f'{field} has no {key}; give a file with at least one')
    classes = _classes(cfg, dataset)
    names = [category.get('name') for category in content['categories']]
    if classes and not set(classes) & set(names):
        raise ValueError(
            f'{field} has the categories {names[:5]}, none of which is among the classes '
            f'{list(classes)[:5]} of the data set; set dataset.metainfo.classes'
        )


def _dataset(cfg: Config, loader: str) -> dict:
    """The innermost data set of a data loader, inside wrappers such as RepeatDataset."""
    dataset = cfg.get(loader, {}).get('dataset', {})
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _classes(cfg: Config, dataset: dict) -> tuple[str, ...]:
    kind = DATASETS.get(f'{cfg.get("default_scope", "mmengine")}.{dataset["type"]}')
    return {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}.get('classes', ())


def _how_to_get(loader: str, missing: Path) -> str:
    top = f'{loader}.dataset: {str(missing)!r} is missing. '
    if any(part.startswith('demo') for part in missing.parts):
        return top + 'Make the demo data with: python tools/make_demo_dataset.py --help'
    return top + (
        'Put the data set there (COCO: train2017/, val2017/ and annotations/ from '
        'https://cocodataset.org under data/coco), or run the demo, which needs none: make demo'
    )
