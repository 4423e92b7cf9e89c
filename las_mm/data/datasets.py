"""Errors about data sets that say which file is missing or broken, and what to do."""

import re
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS

from las_mm.config_parts import innermost_datasets, type_name

from .annotations import check_coco

FRAMEWORKS = ('mmdet', 'mmpretrain', 'mmengine')
REMOTE = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:')  # http://, s3://, cluster:s3://

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
        for dataset in innermost_datasets((cfg.get(loader) or {}).get('dataset')):
            if _is_on_disk(dataset) and _is_of_framework(cfg, dataset):
                _require_files(loader, dataset)
        check_annotations(cfg, loader)


def _require_files(loader: str, dataset: dict) -> None:
    root = Path(dataset.get('data_root') or '.').expanduser()
    for part in _parts(dataset) or ['']:
        path = root / part
        if not path.exists():
            raise _missing(loader, dataset, path, 'is missing')
        if path.is_dir() and not any(path.iterdir()):
            raise _missing(loader, dataset, path, 'is empty')


def check_annotations(cfg: Config, loader: str) -> None:
    """Check the COCO annotation files of a data loader; another data set's pass.

    Raises:
        ValueError: If one is not JSON in COCO's layout, or nothing in it is of use.
    """
    for dataset in innermost_datasets((cfg.get(loader) or {}).get('dataset')):
        path = Path(dataset.get('data_root') or '.', str(dataset.get('ann_file') or ''))
        if _is_on_disk(dataset) and path.is_file() and reads_coco(_class_of(cfg, dataset)):
            # A test set may come without annotations.
            test_mode = bool(dataset.get('test_mode'))
            check_coco(f'{loader}.dataset.ann_file', path, _classes(cfg, dataset), test_mode)


def reads_coco(kind: type | None) -> bool:
    """Whether a class reads annotation files as mmdet's CocoDataset does, and nothing else."""
    bases = [base for base in getattr(kind, '__mro__', ()) if base.__name__ == 'CocoDataset']
    return bool(bases) and all(
        getattr(kind, name) is getattr(bases[0], name)
        for name in ('load_data_list', 'parse_data_info')
    )


def _parts(dataset: dict) -> list[str]:
    """What a data set reads below its root."""
    folders = dataset.get('data_prefix') or {}
    folders = [folders] if isinstance(folders, str) else list(dict(folders).values())
    return [part for part in (dataset.get('ann_file'), *folders) if part and isinstance(part, str)]


def _is_on_disk(dataset: dict) -> bool:
    """Whether a data set reads plain local files, which alone can be looked at beforehand."""
    for name in ('backend_args', 'file_client_args'):
        backend = (dataset.get(name) or {}).get('backend', 'local')
        if backend not in ('local', 'disk'):
            return False
    places = [str(dataset.get('data_root') or ''), *_parts(dataset)]
    return not any(REMOTE.match(place) for place in places)


def _class_of(cfg: Config, dataset: dict) -> type | None:
    """The class of a data set; None if nobody has registered it yet."""
    kind = dataset.get('type')
    if not isinstance(kind, str):
        return kind
    if '.' in kind:
        return DATASETS.get(kind)
    installed = [name for name in FRAMEWORKS if find_spec(name)]
    scopes = sorted(installed, key=lambda name: name != cfg.get('default_scope'))
    for scope in scopes:
        import_module(f'{scope}.datasets' if scope != 'mmengine' else scope)  # which registers them
        if found := DATASETS.get(f'{scope}.{kind}'):
            return found
    return None


def _is_of_framework(cfg: Config, dataset: dict) -> bool:
    """Whether the data set is of a class whose options are known; others' owners check theirs."""
    kind = _class_of(cfg, dataset)
    if kind is None or kind.__module__.split('.')[0] not in FRAMEWORKS:
        return False
    # Those that fetch their own files need none beforehand.
    return 'download' not in signature(kind).parameters or dataset.get('download') is False


def _classes(cfg: Config, dataset: dict) -> tuple[str, ...]:
    kind = _class_of(cfg, dataset)
    return {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}.get('classes') or ()


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
