"""Errors about data sets that say which file is missing or broken, and what to do."""

from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS

from las_mm.config_parts import class_of, type_name

from .annotations import check_coco
from .owners import (
    annotation_parts,
    classes_of,
    fetches_itself,
    folder_parts,
    framework_datasets,
    loads_images_from_folders,
    reads_coco,
    reads_first_sample,
)

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

    Only what certainly cannot be read is refused: what looks missing is tried by making the data
    set, as annotations may name files elsewhere.

    Raises:
        MissingDataError: If a file or folder is missing or a folder is empty; says how to get it.
        ValueError: If an annotation file is broken.
    """
    for loader in loaders:
        for dataset in framework_datasets(cfg, loader):
            kind = class_of(cfg, dataset, DATASETS)
            if not fetches_itself(kind, dataset):
                folders = loads_images_from_folders(cfg, dataset)
                lacking = _lacking(dataset, folders)
                if lacking and not reads_first_sample(kind, dataset, folders):
                    raise _missing(loader, dataset, *lacking)
        check_annotations(cfg, loader)


def _lacking(dataset: dict, folders: bool) -> tuple[Path, str] | None:
    """What of a data set seems not to be there, with its folders of images or without."""
    root = Path(dataset.get('data_root') or '.').expanduser()
    parts = [*annotation_parts(dataset), *(folder_parts(dataset) if folders else ())]
    for part in parts or ([''] if folders else []):
        path = root / part
        if not path.exists():
            return path, 'is missing'
        if path.is_dir() and not any(path.iterdir()):
            return path, 'is empty'
    return None


def check_annotations(cfg: Config, loader: str) -> None:
    """Check the COCO annotation files of a data loader; another data set's pass.

    Raises:
        ValueError: If one is not JSON in COCO's layout, or nothing in it is of use.
    """
    datasets = list(framework_datasets(cfg, loader))
    for dataset in datasets:
        kind = class_of(cfg, dataset, DATASETS)
        path = Path(dataset.get('data_root') or '.', *annotation_parts(dataset))
        if not path.is_file() or not reads_coco(kind):
            continue
        # A test set may come without objects, and so may one of several to train on.
        filtered = (dataset.get('filter_cfg') or {}).get('filter_empty_gt')
        optional = dataset.get('test_mode') or filtered is False or len(datasets) > 1
        check_coco(
            f'{loader}.dataset.ann_file', path, classes_of(kind, dataset) or (), bool(optional)
        )


def _missing(loader: str, dataset: dict, path: Path, what: str) -> MissingDataError:
    root = str(dataset.get('data_root') or '.')
    message = f'{loader}.dataset: {str(path)!r} {what}; expected '
    if any(part.startswith('demo') for part in Path(root).parts):
        task = 'detection' if 'Coco' in type_name(dataset) else 'classification'
        command = f'python tools/make_demo_dataset.py --task {task} --out {root}'
        return MissingDataError(f'{message}the demo data in {root}', f'make them: {command}')
    kind = next(kind for kind in SOURCES if kind in type_name(dataset))
    expected, source = SOURCES[kind]
    return MissingDataError(
        f'{message}{expected} in {root}',
        f'get it {source} and put or link it there, or run the demo: {DEMO}',
    )
