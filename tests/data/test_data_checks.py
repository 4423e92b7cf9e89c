"""The check before a run passes every data set that its owner reads, and names what is missing."""

import json
from pathlib import Path

import pytest
from layouts import write_layouts
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.fileio.backends import prefix_to_backends
from mmengine.registry import DATASETS

import las_mm  # noqa: F401
from las_mm.data.datasets import MissingDataError, require_data

LOAD = dict(type='LoadImageFromFile')
META = dict(classes=('cat', 'dog'))


@pytest.fixture(scope='module', autouse=True)
def root(tmp_path_factory) -> Path:
    """Two images in every layout."""
    root = tmp_path_factory.mktemp('data')
    write_layouts(root)
    return root


def coco(**options) -> dict:
    """A CocoDataset as configs have it."""
    plain = dict(ann_file='coco.json', data_prefix=dict(img='train'), pipeline=[LOAD])
    plain |= dict(type='mmdet.CocoDataset', data_root='ROOT', metainfo=META, serialize_data=False)
    return {**plain, **options}


def folders(kind: str = 'CustomDataset', **options) -> dict:
    """A data set of mmpretrain."""
    plain = dict(data_root='ROOT', pipeline=[LOAD], serialize_data=False)
    return dict(type=f'mmpretrain.{kind}', **{**plain, **options})


REMOTE_STEP = dict(LOAD, backend_args=dict(backend='cupboard'))
READ = {
    'COCO': coco(),
    'panoptic': coco(
        type='mmdet.CocoPanopticDataset',
        ann_file='panoptic.json',
        data_prefix=dict(img='train', seg='no masks here'),
        metainfo=dict(META, thing_classes=('cat', 'dog'), stuff_classes=()),
    ),
    'XML': coco(
        type='mmdet.XMLDataset',
        ann_file='voc/ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root='voc/'),
    ),
    'CrowdHuman': coco(
        type='mmdet.CrowdHumanDataset',
        ann_file='people_train.odgt',
        data_prefix=dict(img='Images'),
        metainfo=None,
    ),
    'names of classes in a file': coco(metainfo=dict(classes='ROOT/classes.txt')),
    'without objects, told': coco(
        ann_file='unlabeled.json', filter_cfg=dict(filter_empty_gt=False)
    ),
    'without objects, among others': dict(
        type='mmdet.ConcatDataset', datasets=[coco(), coco(ann_file='unlabeled.json')]
    ),
    'without objects, for a test': coco(ann_file='unlabeled.json', test_mode=True),
    'images by absolute names': coco(ann_file='absolute.json', data_prefix=dict(img='gone')),
    'images by absolute names, empty folder': coco(
        ann_file='absolute.json', data_prefix=dict(img='empty')
    ),
    'no masks though a folder is named': coco(data_prefix=dict(img='train', seg='gone')),
    'another backend': coco(
        data_root='',
        ann_file='cupboard://coco.json',
        data_prefix=dict(img='cupboard://'),
        pipeline=[REMOTE_STEP],
    ),
    'another backend, by options alone': coco(
        data_root='',
        data_prefix=dict(img=''),
        backend_args=dict(backend='cupboard'),
        pipeline=[REMOTE_STEP],
        reads=False,
    ),
    'another backend, of images alone': coco(
        data_prefix=dict(img='cupboard://'),
        data_root='',
        ann_file='ROOT/coco.json',
        pipeline=[REMOTE_STEP],
    ),
    'another backend, of the step alone': coco(
        data_root='', ann_file='ROOT/coco.json', data_prefix=dict(img=''), pipeline=[REMOTE_STEP]
    ),
    'another backend, of a folder that is none': coco(
        data_prefix=dict(img='bucket/gone'), pipeline=[REMOTE_STEP], reads=False
    ),
    'an old client': coco(
        data_prefix=dict(img='bucket/gone'),
        pipeline=[dict(LOAD, file_client_args=dict(backend='petrel'))],
        reads=False,
    ),
    'a step inside of another': coco(
        data_prefix=dict(img='bucket/gone'),
        pipeline=[dict(type='RandomChoice', transforms=[[REMOTE_STEP], [REMOTE_STEP]])],
        reads=False,
    ),
    'no disk at all': coco(
        data_root='s3://bucket', backend_args=dict(backend='petrel'), reads=False
    ),
    'a cluster': coco(data_root='cluster:s3://bucket', reads=False),
    'a loader of a user': coco(
        data_prefix=dict(img='gone'), pipeline=[dict(type='LoadFromArchive')]
    ),
    'a data set of a user': dict(
        type='ListedDataset', ann_file='gone', data_prefix=dict(img='gone'), pipeline=[LOAD]
    ),
    'a CocoDataset of a user': coco(type='LinesDataset', ann_file='lines.txt'),
    'a wrapper of a user': dict(
        type='FoldDataset', fold=1, dataset=coco(ann_file='fold{fold}.json')
    ),
    'nobody knows it': dict(type='elsewhere.Data', data_root='gone', ann_file=['a'], reads=False),
    'nothing of a name': dict(type='Unheard', data_prefix=['gone'], reads=False),
    'repeated': dict(type='RepeatDataset', times=2, dataset=coco()),
    'balanced': dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=coco()),
    'mixed': dict(type='mmdet.MultiImageMixDataset', dataset=coco(), pipeline=[]),
    'concatenated': dict(type='ConcatDataset', datasets=[coco(), coco()]),
    'folders': folders(data_prefix='train'),
    'folders, root alone': folders(data_root='ROOT/train'),
    'folders, a dictionary': folders(data_prefix=dict(img_path='train')),
    'classes in a file': folders(
        data_prefix='train', ann_file='classified.txt', classes=META['classes']
    ),
    'files elsewhere': folders(
        data_prefix='gone', ann_file='elsewhere.txt', classes=META['classes']
    ),
    'ImageNet by annotations': folders('ImageNet', data_prefix='train', ann_file='meta/train.txt'),
    'ImageNet by split': folders('ImageNet', split='train'),
    'in folds': dict(
        type='mmpretrain.KFoldDataset', num_splits=2, dataset=folders(data_prefix='train')
    ),
    'CIFAR to be fetched': folders('CIFAR10', data_root='', data_prefix='gone', reads=False),
}


def config_of(dataset, root, **more) -> Config:
    """A config with a data set, in the folder of data."""
    text = json.dumps(dataset).replace('ROOT', str(root))
    return Config(dict(train_dataloader=dict(dataset=json.loads(text)), **more))


@pytest.mark.parametrize('name', READ)
def test_what_its_owner_reads_passes(root, name):
    """Whatever the config's default scope."""
    dataset = dict(READ[name])
    read = dataset.pop('reads', True)
    for scope in ('mmdet', 'mmpretrain', 'nowhere', None):
        cfg = config_of(dataset, root, **(dict(default_scope=scope) if scope else {}))
        require_data(cfg, 'train_dataloader')
    if read:
        made = DATASETS.build(cfg.train_dataloader.dataset)
        assert made[0]['img'].shape == (40, 50, 3)


LACKING = {
    'annotations': (coco(ann_file='gone.json'), r"gone.json' is missing"),
    'images': (coco(data_prefix=dict(img='gone')), r"gone' is missing"),
    'images, empty': (coco(data_prefix=dict(img='empty')), r"empty' is empty"),
    'images of XML': (
        coco(type='mmdet.XMLDataset', ann_file='gone.txt', data_prefix=dict(sub_data_root='voc/')),
        r"gone.txt' is missing",
    ),
    'in wrappers': (
        dict(
            type='RepeatDataset',
            times=2,
            dataset=dict(type='ConcatDataset', datasets=[coco(), coco(ann_file='gone.json')]),
        ),
        r"gone.json' is missing",
    ),
    'the root': (folders(data_root='ROOT/gone'), r"gone' is missing"),
    'a folder of classes': (folders(data_prefix='gone'), r"gone' is missing"),
    'a split': (folders('ImageNet', data_prefix='empty'), r"empty' is empty"),
    'CIFAR not to be fetched': (folders('CIFAR10', data_prefix='gone', download=False), 'gone'),
}


@pytest.mark.parametrize(('dataset', 'message'), LACKING.values(), ids=LACKING)
def test_what_is_missing_is_named(root, dataset, message):
    with pytest.raises(MissingDataError, match=message) as error:
        require_data(config_of(dataset, root), 'train_dataloader')
    assert '\n' not in str(error.value) and error.value.hint


def test_a_loader_may_be_a_list_an_object_or_nothing(root):
    loaders = [dict(dataset=coco()), dict(dataset=coco(ann_file='gone.json'))]
    cfg = config_of(loaders, root)
    cfg.val_dataloader = cfg.train_dataloader.dataset
    cfg.test_dataloader = None
    require_data(cfg, 'test_dataloader', 'absent')
    with pytest.raises(MissingDataError, match='val_dataloader.dataset: .*gone.json'):
        require_data(cfg, 'val_dataloader')


def test_a_backend_in_the_place_of_the_local_one_is_asked_itself(root, monkeypatch):
    class Elsewhere(LocalBackend):
        def get(self, filepath):
            return (root / 'train' / Path(filepath).name).read_bytes()

    cfg = config_of(coco(data_prefix=dict(img='gone')), root)
    with pytest.raises(MissingDataError):
        require_data(cfg, 'train_dataloader')
    monkeypatch.setitem(prefix_to_backends, '', Elsewhere)
    require_data(cfg, 'train_dataloader')
