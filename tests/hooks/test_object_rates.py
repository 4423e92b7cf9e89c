"""Rates inside and outside of objects are those of the pixels, or there are none."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import Resize
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.registry import DefaultScope
from mmpretrain.datasets import BaseDataset as PretrainDataset
from PIL import Image
from placed_images import Scene, Scenes, Watcher, read_rates, through, warped

from las_mm.hooks import LatencyReportHook
from las_mm.hooks.placement import Unknown, placement_of

LOAD_IMAGE, PACK = dict(type='LoadImageFromNDArray'), dict(type='PackDetInputs')
LOAD = dict(type='LoadAnnotations', with_bbox=True)
MODELS = {divisor: Watcher(divisor).eval() for divisor in (1, 32)}


def resizes(draw) -> dict:
    width, height = draw(st.integers(40, 130)), draw(st.integers(40, 130))
    kind = draw(st.sampled_from(['Resize', 'factor', 'FixScaleResize', 'RandomChoiceResize']))
    keep = draw(st.booleans())
    if kind == 'factor':
        factors = st.sampled_from([0.75, 1.0, 1.5, 1.9])
        return dict(type='Resize', scale_factor=(draw(factors), draw(factors)))
    if kind == 'RandomChoiceResize':
        return dict(type=kind, scales=[(width, height), (80, 60)], keep_ratio=keep)
    return dict(type=kind, scale=(width, height), keep_ratio=keep)


def flips(draw) -> dict:
    prob = draw(st.sampled_from([0.7, 1.0]))
    ways = st.sampled_from(['horizontal', 'vertical', 'diagonal', ['horizontal', 'vertical']])
    return dict(type='RandomFlip', prob=prob, direction=draw(ways))


def pads(draw) -> dict:
    kinds = [dict(size_divisor=16), dict(size=(140, 150)), dict(pad_to_square=True)]
    return dict(type='Pad', **draw(st.sampled_from(kinds)))


def crops(draw) -> dict:
    edges = st.integers(30, 60)
    return dict(type='RandomCrop', crop_size=(draw(edges), draw(edges)), allow_negative_crop=True)


@st.composite
def pipelines(draw) -> list[dict]:
    """Steps in any order, the loading of boxes anywhere among them."""
    kinds = st.sampled_from([resizes, resizes, flips, flips, pads, pads, crops])
    once_each = st.permutations([resizes, flips, pads])
    steps = [kind(draw) for kind in draw(once_each | st.lists(kinds, max_size=4))]
    steps.insert(draw(st.integers(0, len(steps))), LOAD)
    return [LOAD_IMAGE, *steps, PACK]


@st.composite
def scenes(draw) -> Scene:
    size = draw(st.tuples(st.integers(45, 110), st.integers(45, 110)))

    def span(edge: int) -> tuple[int, int]:
        start = draw(st.integers(-10, edge - 8))
        return start, start + draw(st.integers(18, 60))

    count = draw(st.integers(0, 3))
    spans = [(span(size[1]), span(size[0])) for _ in range(count)]
    boxes = tuple((x1, y1, x2, y2) for (x1, x2), (y1, y2) in spans)
    return Scene(size, boxes, tuple(draw(st.booleans()) for _ in boxes))


def runner_of(model, dataset) -> SimpleNamespace:
    """What the hook needs of a runner."""
    loader = SimpleNamespace(dataset=dataset)
    logger = logging.getLogger('las_mm.objects')
    return SimpleNamespace(model=model, test_dataloader=loader, logger=logger, hooks=[])


def after_test(model, dataset, batches) -> LatencyReportHook:
    """The hook after a test of batches of packed samples."""
    hook = LatencyReportHook(devices=['v100'])
    hook.before_test(runner_of(model, dataset))
    with torch.no_grad():
        for samples in batches:
            model.test_step({key: [s[key] for s in samples] for key in samples[0]})
    hook.detach()
    return hook


def bounds(model, dataset, seeds, slack) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Least and largest sums of rates and pixels inside and outside, counted pixel by pixel."""
    low, high = torch.zeros(2, 2), torch.zeros(2, 2)
    for index, (scene, seed) in enumerate(zip(dataset.scenes, seeds, strict=True)):
        picture, objects, ignored = warped(dataset.pipeline, scene, seed, slack)
        rates = read_rates(model.backbone, index, picture[0].shape)
        inside = [picture[i] & objects[i] for i in (0, 1)]
        neither = [inside[1 - i] | ignored[1 - i] for i in (0, 1)]
        outside = [picture[i] & ~neither[i] for i in (0, 1)]
        for total, parts in ((low, (inside[0], outside[0])), (high, (inside[1], outside[1]))):
            total += torch.tensor([[rates[p].sum(), p.sum()] for p in parts])
    return low, high


@settings(max_examples=120)
@given(st.data())
def test_rates_are_those_of_the_pixels_that_the_pipeline_moved_or_there_are_none(data):
    steps, count = data.draw(pipelines()), data.draw(st.integers(1, 3))
    model = MODELS[data.draw(st.sampled_from([1, 32]))]
    dataset = Scenes([data.draw(scenes()) for _ in range(count)], steps)
    seeds = [data.draw(st.integers(0, 99)) for _ in dataset.scenes]
    images = [dataset.get_data_info(index)['img'] for index in range(count)]
    drawn = zip(dataset.scenes, images, seeds, strict=True)
    batch = [through(dataset.pipeline, *one) for one in drawn]
    hook = after_test(model, dataset, [batch])
    if hook.reason:
        assert may_be_unknown(steps), hook.reason
        return
    slack = int(sum('Resize' in step['type'] for step in steps) > 1)
    low, high = bounds(model, dataset, seeds, slack)
    found = torch.stack([hook.objects.sums, hook.objects.pixels], 1)
    off = 4 * count + 0.01  # the corners of a picture, where interpolation in x and y meets
    assert (found >= low - off).all() and (found <= high + off).all(), (low, found, high)


def may_be_unknown(steps: list[dict]) -> bool:
    """Whether a pipeline is one of those of which not all that matters is recorded."""
    kinds = [step['type'] for step in steps[1:-1]]
    moving = [place for place, kind in enumerate(kinds) if kind not in ('LoadAnnotations', 'Pad')]
    loaded = kinds.index('LoadAnnotations')
    between = bool(moving) and moving[0] < loaded < moving[-1]
    several = kinds.count('RandomFlip') > 1 or sum('Resize' in kind for kind in kinds) > 1
    first = bool(moving) and loaded < moving[0]
    if first and 'Pad' not in kinds:
        return False  # boxes come as the pipeline moved them
    return between or several or 'RandomCrop' in kinds


SCENE = Scene((60, 90), ((10, 5, 50, 40),), (False,))


def simple(steps=(), load_first=True, pack=PACK, model=None, dataset=None) -> LatencyReportHook:
    """The hook after one image went through a pipeline."""
    order = [LOAD, *steps] if load_first else [*steps, LOAD]
    dataset = dataset or Scenes([SCENE], [LOAD_IMAGE, *order, pack])
    inner = dataset.datasets[0] if hasattr(dataset, 'datasets') else dataset
    image = inner.get_data_info(0)['img']
    packed = through(inner.pipeline, SCENE, image, seed=0)
    return after_test(model or MODELS[1], dataset, [[packed]])


@TRANSFORMS.register_module(name='Zoom')
class Zoom(Resize):
    """Somebody's own."""


Zoom.__name__ = 'Resize'


class Shifting(DetDataPreprocessor):
    """Somebody's own, which moves pixels."""


UNRECORDED = dict(type='PackDetInputs', meta_keys=('img_path', 'img_shape', 'ori_shape'))
RESIZE, FLIP = dict(type='Resize', scale=(64, 64)), dict(type='RandomFlip', prob=1.0)


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (dict(steps=[dict(type='Zoom', scale=(64, 64))]), 'Resize may move boxes'),
        (dict(steps=[dict(type='RandomAffine')]), 'RandomAffine may move boxes'),
        (dict(steps=[RESIZE], load_first=False, pack=UNRECORDED), 'scale_factor is missing'),
        (dict(steps=[FLIP], load_first=False, pack=UNRECORDED), 'flip is missing'),
        (dict(model=Watcher(preprocessor=Shifting).eval()), 'Shifting may move pixels'),
        (dict(model=Watcher(runs=2).eval()), 'the backbone ran 2 times'),
    ],
)
def test_what_cannot_be_known_is_left_out_with_one_reason(options, reason, caplog):
    caplog.set_level(logging.INFO)
    hook = simple(**options)
    lines = [r.getMessage() for r in caplog.records if 'no rates inside' in r.getMessage()]
    assert len(lines) == 1 and reason in lines[0]
    assert hook.report()['object_rates'] is None


@pytest.mark.parametrize('order', [1, -1])
def test_data_sets_with_other_pipelines_are_not_taken_for_the_first_one(order):
    steps = [LOAD, RESIZE], [RESIZE, LOAD]
    parts = [Scenes([SCENE], [LOAD_IMAGE, *inner, PACK]) for inner in steps][::order]
    hook = simple(dataset=ConcatDataset(parts))
    assert hook.reason == 'the data sets load boxes in different coordinates'
    alike = [Scenes([SCENE], [LOAD_IMAGE, *steps[0], PACK]) for _ in range(2)]
    assert not simple(dataset=ConcatDataset(alike)).reason


def test_pipelines_within_pipelines_and_changes_of_colour_are_followed():
    colours = dict(type='Compose', transforms=[dict(type='PhotoMetricDistortion'), RESIZE])
    assert not simple([colours, FLIP], load_first=False).reason


def test_boxes_that_are_loaded_anew_count_as_loaded_last():
    twice = simple([LOAD, RESIZE, LOAD])
    once = simple([RESIZE], load_first=False)
    torch.testing.assert_close(twice.objects.sums, once.objects.sums)


def test_boxes_of_other_shapes_are_left_out():
    loading = dict(LOAD, box_type=None)
    dataset = Scenes([SCENE], [LOAD_IMAGE, loading, PACK])
    packed = through(dataset.pipeline, SCENE, dataset.get_data_info(0)['img'], seed=0)
    boxes = torch.cat([packed['data_samples'].gt_instances.bboxes, torch.zeros(1, 1)], 1)
    packed['data_samples'].gt_instances.bboxes = boxes
    hook = after_test(MODELS[1], dataset, [[packed]])
    assert hook.reason == 'boxes of 5 numbers are not upright'


def test_a_classifiers_boxes_are_those_that_its_pipeline_packs(tmp_path):
    """As tiny20's config: a photograph is enlarged, and the box of its object with it."""
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'image.png')
    instance = dict(bbox=[6, 8, 30, 40], bbox_label=0, ignore_flag=0)
    row = dict(img_path='image.png', gt_label=0, instances=[instance])
    (tmp_path / 'test.json').write_text(json.dumps(dict(metainfo={}, data_list=[row])))
    pipeline = Config.fromfile('configs/experiments/tiny20.py').test_pipeline
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        data = PretrainDataset('test.json', data_root=str(tmp_path), pipeline=pipeline)
        sample = data[0]['data_samples']
    placed = placement_of([data.pipeline]).place(sample)
    scale = torch.tensor([128 / 48, 128 / 64] * 2, dtype=torch.double)
    assert torch.allclose(placed.boxes, torch.tensor([[6.0, 8, 30, 40]]).double() * scale)
    assert placed.picture == (0, 0, 128, 128) and not len(placed.ignored)
    del sample.gt_bboxes
    with pytest.raises(Unknown, match='the samples have no boxes'):
        placement_of([data.pipeline]).place(sample)
