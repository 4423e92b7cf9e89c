"""Rates inside and outside of objects are those of the pixels, whatever moved them, or there are none."""

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
from mmengine.dataset import ConcatDataset
from placed_images import Scene, Scenes, Watcher, read_rates, through, warped

from las_mm.hooks import LatencyReportHook

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
    prob = draw(st.sampled_from([0.5, 1.0]))
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
    steps = [kind(draw) for kind in draw(st.lists(kinds, max_size=4))]
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


@settings(max_examples=150)
@given(st.data())
def test_rates_are_those_of_the_pixels_that_the_pipeline_moved_or_there_are_none(data):
    steps, count = data.draw(pipelines()), data.draw(st.integers(1, 3))
    model = MODELS[data.draw(st.sampled_from([1, 32]))]
    dataset = Scenes([data.draw(scenes()) for _ in range(count)], steps)
    seeds = [data.draw(st.integers(0, 99)) for _ in dataset.scenes]
    entries = zip(dataset.scenes, seeds, (dataset.get_data_info(i) for i in range(count)))
    batch = [through(dataset.pipeline, scene, info['img'], seed) for scene, seed, info in entries]
    hook = after_test(model, dataset, [batch])
    if hook.reason:
        assert may_be_unknown(steps), hook.reason
        return
    slack = int(sum('Resize' in step['type'] for step in steps) > 1)
    low, high = bounds(model, dataset, seeds, slack)
    found = torch.stack([hook.objects.sums, hook.objects.pixels], 1)
    assert (found >= low - 0.01).all() and (found <= high + 0.01).all(), (low, found, high)


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
