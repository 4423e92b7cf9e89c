"""Who reads a data set and from where: only what is read as usual is looked at beforehand."""

import re
from collections.abc import Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.fileio import LocalBackend, list_from_file
from mmengine.fileio.backends import backends, prefix_to_backends
from mmengine.registry import DATASETS, TRANSFORMS

from las_mm.config_parts import FRAMEWORKS, class_of

REMOTE = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:')  # http://, s3://, cluster:s3://
# What a class must leave as CocoDataset has it to read such files as that does.
COCO_READING = (
    *('__init__', 'full_init', 'load_data_list', 'parse_data_info', 'filter_data'),
    *('COCOAPI', '_join_prefix', '_load_metainfo'),
)


def framework_datasets(cfg: Config, loader: str) -> Iterator[dict]:
    """The data sets of a data loader of which frameworks' own classes read plain local files.

    Those inside of frameworks' wrappers, such as RepeatDataset, are among them; a wrapper or data
    set of another owner does with its options what it likes.

    Args:
        cfg: The config.
        loader: Name of the data loader, which may be a list of several.
    """
    loaders = cfg.get(loader) or {}
    for one in loaders if isinstance(loaders, (list, tuple)) else [loaders]:
        if isinstance(one, Mapping):
            yield from _local_datasets(cfg, one.get('dataset'))


def _local_datasets(cfg: Config, dataset: Any) -> Iterator[dict]:
    if isinstance(dataset, (list, tuple)):
        for one in dataset:
            yield from _local_datasets(cfg, one)
    elif isinstance(dataset, Mapping) and _is_of_framework(class_of(cfg, dataset, DATASETS)):
        inside = dataset.get('dataset') or dataset.get('datasets')
        if isinstance(inside, (Mapping, list, tuple)):
            yield from _local_datasets(cfg, inside)
        elif _is_local(dataset, places_of(dataset)):
            yield dataset  # type: ignore[misc]


def _is_of_framework(kind: Any) -> bool:
    return str(getattr(kind, '__module__', '')).split('.')[0] in FRAMEWORKS


def fetches_itself(kind: Any, dataset: Mapping) -> bool:
    """Whether a class of data sets gets its files where they are missing."""
    return 'download' in signature(kind).parameters and dataset.get('download') is not False


def places_of(dataset: Mapping) -> list[str]:
    """What a data set is told of where its files are."""
    return [str(dataset.get('data_root') or ''), *annotation_parts(dataset), *folder_parts(dataset)]


def annotation_parts(dataset: Mapping) -> list[str]:
    """Its annotation file below its root, if it has one."""
    part = dataset.get('ann_file')
    return [part] if part and isinstance(part, str) else []


def folder_parts(dataset: Mapping) -> list[str]:
    """Its folders below its root."""
    prefix = dataset.get('data_prefix') or ()
    parts = prefix.values() if isinstance(prefix, Mapping) else [prefix]
    return [part for part in parts if part and isinstance(part, str)]


def _is_local(options: Mapping, places: list[str] | tuple = ()) -> bool:
    """Whether these options of a data set or a step mean the local disk."""
    for name in ('backend_args', 'file_client_args'):
        arguments = options.get(name) or {}
        if not isinstance(arguments, Mapping) or arguments.get('prefix'):
            return False
        if arguments.get('backend', 'local') not in ('local', 'disk'):
            return False
    usual = all(  # somebody may have put a backend of their own in its place
        issubclass(backend, LocalBackend) and backend.get is LocalBackend.get
        for backend in (backends['local'], prefix_to_backends[''])
    )
    return usual and not any(REMOTE.match(place) for place in places)


def loads_images_from_folders(cfg: Config, dataset: Mapping) -> bool:
    """Whether a data set's pipeline, if it has one, loads plain files as mmcv does."""
    pipeline = dataset.get('pipeline')
    if not pipeline:
        return True
    steps = list(_steps(pipeline))
    return all(map(_is_local, steps)) and any(_is_plain_loading(cfg, step) for step in steps)


def _steps(part: Any) -> Iterator[Mapping]:
    """All steps of a pipeline, those inside of others included."""
    if isinstance(part, (list, tuple)):
        for one in part:
            yield from _steps(one)
    elif isinstance(part, Mapping):
        yield part
        for value in part.values():
            yield from _steps(value)


def _is_plain_loading(cfg: Config, step: Mapping) -> bool:
    kind = class_of(cfg, step, TRANSFORMS)
    plain = isinstance(kind, type) and issubclass(kind, LoadImageFromFile)
    return plain and kind.transform is LoadImageFromFile.transform


def reads_coco(kind: Any) -> bool:
    """Whether a class reads annotation files as mmdet's CocoDataset does, and nothing else."""
    bases = [base for base in getattr(kind, '__mro__', ()) if base.__name__ == 'CocoDataset']
    return bool(bases) and all(
        _function(kind, name) is _function(bases[0], name) for name in COCO_READING
    )


def _function(kind: type, name: str) -> Any:
    attribute = getattr(kind, name, None)
    return getattr(attribute, '__func__', attribute)


def classes_of(kind: Any, dataset: Mapping) -> tuple[str, ...] | None:
    """The names that a data set looks for, which may stand in a file; none means all.

    Returns:
        The names, or None where they cannot be known.
    """
    own = getattr(kind, 'METAINFO', {})
    classes = {**own, **(dataset.get('metainfo') or {})}.get('classes') or ()
    if isinstance(classes, str):
        if not Path(classes).is_file():
            return None
        classes = list_from_file(classes)
    return tuple(classes)


def reads_first_sample(kind: Any, dataset: Mapping, images: bool) -> bool:
    """Whether a data set can be made, and its first image is there if they are local files."""
    try:
        made = DATASETS.build({**dataset, 'type': kind, 'pipeline': []})
        info = made.get_data_info(0)
        place = info.get('img_path') if images and isinstance(info, Mapping) else None
        return place is None or Path(place).is_file()
    except Exception:  # as many classes of errors as data sets
        return False
