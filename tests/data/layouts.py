"""Two images in every layout, and what users register to read them their own way."""

import json
import pickle
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from mmdet.datasets import CocoDataset
from mmengine.dataset import BaseDataset
from mmengine.fileio import BaseStorageBackend, register_backend
from mmengine.registry import DATASETS, TRANSFORMS

STORE: dict[str, Path] = {}  # where they are, as 'root'


@register_backend('cupboard', prefixes='cupboard')
class CupboardBackend(BaseStorageBackend):
    """Keeps files under other names than they have on the disk."""

    def __init__(self, **options) -> None:
        pass

    def get(self, filepath) -> bytes:
        return (STORE['root'] / str(filepath).removeprefix('cupboard://')[::-1]).read_bytes()

    def join_path(self, filepath, *filepaths) -> str:
        return '/'.join([str(filepath).rstrip('/'), *filepaths])

    @contextmanager
    def get_local_path(self, filepath):
        yield STORE['root'] / str(filepath).removeprefix('cupboard://')[::-1]

    def get_text(self, filepath, encoding='utf-8') -> str:
        return self.get(filepath).decode(encoding)


@DATASETS.register_module()
class ListedDataset(BaseDataset):
    """A data set of a user, whose options mean something else than mmengine's."""

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=str(STORE['root'] / 'train' / '0.jpg'))]

    def _join_prefix(self) -> None:
        pass


@DATASETS.register_module()
class LinesDataset(CocoDataset):
    """A CocoDataset of a user with a format of its own."""

    def load_data_list(self) -> list[dict]:
        lines = Path(self.ann_file).read_text().split()
        root = self.data_prefix['img']
        return [dict(img_path=f'{root}/{line}', img_id=0, instances=[]) for line in lines]


@DATASETS.register_module()
class FoldDataset:
    """A wrapper of a user that completes what it wraps."""

    def __init__(self, dataset: dict, fold: int) -> None:
        name = dataset['ann_file'].format(fold=fold)
        self.dataset = DATASETS.build(dict(dataset, ann_file=name))

    def __getitem__(self, index: int) -> dict:
        return self.dataset[index]


@TRANSFORMS.register_module()
class LoadFromArchive:
    """A loader of a user."""

    def __call__(self, results: dict) -> dict:
        name = Path(results['img_path']).name
        content = pickle.loads((STORE['root'] / 'archive.pkl').read_bytes())[name]
        return dict(results, img=cv2.imdecode(np.frombuffer(content, np.uint8), 1))


def write_layouts(root: Path) -> None:
    """Write the images, lists and annotations."""
    STORE['root'] = root
    picture = cv2.imencode('.jpg', np.full((40, 50, 3), 99, np.uint8))[1].tobytes()
    for folder in ('train', 'train/cat', 'train/dog', 'empty', 'voc/JPEGImages', 'Images'):
        (root / folder).mkdir(parents=True, exist_ok=True)
        if folder != 'empty':
            (root / folder / '0.jpg').write_bytes(picture)
    (root / 'archive.pkl').write_bytes(pickle.dumps({'0.jpg': picture}))
    (root / 'gpj.0').write_bytes(picture)
    box = dict(id=1, image_id=1, category_id=1, bbox=[4, 4, 8, 8], area=64, iscrowd=0)
    image = dict(id=1, file_name='0.jpg', height=40, width=50)
    coco = dict(
        images=[image],
        categories=[dict(id=1, name='cat', isthing=1), dict(id=2, name='dog', isthing=1)],
        annotations=[box],
    )
    segment = dict(image_id=1, file_name='0.png', segments_info=[dict(box, id=1)])
    contents = {
        'coco.json': coco,
        'fold1.json': coco,
        'absolute.json': {**coco, 'images': [dict(image, file_name=str(root / 'train/0.jpg'))]},
        'unlabeled.json': {key: coco[key] for key in ('images', 'categories')},
        'panoptic.json': {**coco, 'annotations': [segment]},
    }
    for name, content in contents.items():
        (root / name).write_text(json.dumps(content))
    (root / 'nosj.ococ').write_text(json.dumps(coco))
    (root / 'classes.txt').write_text('cat\ndog\n')
    (root / 'lines.txt').write_text('0.jpg\n')
    (root / 'classified.txt').write_text('cat/0.jpg 0\ndog/0.jpg 1\n')
    (root / 'elsewhere.txt').write_text(f'{root}/train/cat/0.jpg 0\n')
    (root / 'meta').mkdir()
    (root / 'meta' / 'train.txt').write_text('cat/0.jpg 0\n')
    for folder in ('voc/ImageSets/Main', 'voc/Annotations'):
        (root / folder).mkdir(parents=True)
    (root / 'voc/ImageSets/Main/train.txt').write_text('0\n')
    (root / 'voc/Annotations/0.xml').write_text(
        '<annotation><size><width>50</width><height>40</height></size><object><name>cat</name>'
        '<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>'
        '</bndbox></object></annotation>'
    )
    people = dict(ID='0', gtboxes=[])
    (root / 'people_train.odgt').write_text(json.dumps(people))
    (root / 'id_hw_train.json').write_text('{"0": [40, 50]}')
