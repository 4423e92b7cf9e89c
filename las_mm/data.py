"""Errors about data sets that say which file is missing or broken, and what to do."""

from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS

from las_mm.annotations import check_coco

DEMO = 'make demo (makes its data, needs no download)'
SOURCES = {  # part of a data set's type -> what is expected, where to get it
    'Coco': (
        'COCO with train2017/, val2017/ and annotations/',
        'from https://cocodataset.org',
    ),
    'ImageNet': (
        'ImageNet with a folder a class in train/ and in val/',
        'from https://image-net.org/download-images.php',
    ),
    '': ('the data set that the config describes', 'where it is published'),
}


class MissingDataError(FileNotFoundError):
    """A data set is not there.

    Attributes:
        hint: A second line for the user: how to get it.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def require_data(cfg: Config, *loaders: str) -> None:
    """Check that the data sets of the named data loaders are there and of use.

    Raises:
        MissingDataError: If a file or folder is missing or a folder is empty; says how to get it.
        ValueError: If an annotation file is broken.
    """
    for loader in loaders:
        dataset = _dataset(cfg, loader)
        root = Path(dataset.get('data_root') or '.')
        folders = dataset.get('data_prefix') or {}
        folders = [folders] if isinstance(folders, str) else list(folders.values())
        parts = [part for part in (dataset.get('ann_file'), *folders) if part]
        for part in parts or ['']:
            path = root / part
            if not path.exists():
                raise _missing(loader, dataset, path, 'is missing')
            if path.is_dir() and not any(path.iterdir()):
                raise _missing(loader, dataset, path, 'is empty')
        check_annotations(cfg, loader)


def check_annotations(cfg: Config, loader: str) -> None:
    """Check the COCO annotation file of a data loader; another data set's passes.

    Raises:
        ValueError: If it is not JSON in COCO's layout, or nothing in it is of use.
    """
    dataset = _dataset(cfg, loader)
    path = Path(dataset.get('data_root') or '.', dataset.get('ann_file') or '')
    if 'Coco' in str(dataset.get('type')) and path.is_file():
        # A test set may come without annotations.
        test_mode = bool(dataset.get('test_mode'))
        check_coco(f'{loader}.dataset.ann_file', path, _classes(cfg, dataset), test_mode)


def _dataset(cfg: Config, loader: str) -> dict:
    """The innermost data set of a data loader, inside wrappers such as RepeatDataset."""
    dataset = (cfg.get(loader) or {}).get('dataset', {})
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _classes(cfg: Config, dataset: dict) -> tuple[str, ...]:
    kind = DATASETS.get(f'{cfg.get("default_scope", "mmengine")}.{dataset["type"]}')
    return {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}.get('classes', ())


def _missing(loader: str, dataset: dict, path: Path, what: str) -> MissingDataError:
    root = str(dataset.get('data_root') or '.')
    message = f'{loader}.dataset: {str(path)!r} {what}; expected '
    if any(part.startswith('demo') for part in Path(root).parts):
        task = 'detection' if 'Coco' in str(dataset.get('type')) else 'classification'
        command = f'python tools/make_demo_dataset.py --task {task} --out {root}'
        return MissingDataError(f'{message}the demo data in {root}', f'make them: {command}')
    kind = next(kind for kind in SOURCES if kind in str(dataset.get('type')))
    expected, source = SOURCES[kind]
    return MissingDataError(
        f'{message}{expected} in {root}',
        f'get it {source} and put or link it there, or run the demo: {DEMO}',
    )
