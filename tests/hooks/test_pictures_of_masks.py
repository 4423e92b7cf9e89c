"""Pictures of masks: they fit the image, each has a file of its own, and each arrives or fails."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.visualization import BaseVisBackend, LocalVisBackend, Visualizer
from placed_images import STRIDES, Watcher
from test_learning_forwards import soft_teacher

from las_mm.hooks import MaskVisualizationHook
from las_mm.models.densenet_mmpretrain import LASDenseNet
from las_mm.models.resnet_mmdet import LASResNet
from las_mm.reports.masks import DIMMED, mask_panels
from las_mm.reports.pixels import as_picture, computed_pixels

SIZES = st.tuples(st.integers(33, 120), st.integers(33, 120))
WATCHER = Watcher(divisor=32).eval()


class Backend(BaseVisBackend):
    """Keeps pictures, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__('unused')
        self.error, self.images = error, {}

    experiment = None

    def _init_env(self) -> None:
        """Nothing to be made."""

    def add_image(self, name, image, step=0, **kwargs) -> None:
        if self.error is not None:
            raise self.error
        self.images[name, step] = image


def after_test(hooks, model, work_dir, sizes, paths=None, tests=1, backends=None, step=3):
    """What a test of images of these sizes, in one batch, leaves with the visualizer."""
    visualizer = Visualizer.get_instance(f'pictures-{work_dir.name}')
    visualizer._vis_backends = {'kept': Backend()} if backends is None else backends
    runner = SimpleNamespace(model=model, work_dir=str(work_dir), visualizer=visualizer, iter=step)
    runner.logger, runner.hooks = logging.getLogger('las_mm.pictures'), hooks
    paths = paths or [f'{index}.jpg' for index in range(len(sizes))]
    for _ in range(tests):
        torch.manual_seed(0)
        for hook in hooks:
            hook.before_test(runner)
        samples = [
            DetDataSample(
                metainfo=dict(img_path=p, img_shape=s, ori_shape=s, scale_factor=(1.0, 1.0))
            )
            for p, s in zip(paths, sizes, strict=True)
        ]
        inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
        with torch.no_grad():
            model.test_step(dict(inputs=inputs, data_samples=samples))
        for hook in hooks:
            hook.after_test(runner)
    return inputs, visualizer._vis_backends


@settings(max_examples=40)
@given(st.lists(SIZES, min_size=1, max_size=3))
def test_masks_are_laid_over_the_pixels_that_they_decide_on(sizes):
    views = []
    hook = MaskVisualizationHook(level='block', out_dir=None)
    hook._draw = views.append
    runner = SimpleNamespace(model=WATCHER, visualizer=SimpleNamespace(_vis_backends={'x': None}))
    hook.before_test(runner)
    inputs = [torch.full((3, *size), 200, dtype=torch.uint8) for size in sizes]
    samples = [DetDataSample(metainfo=dict(img_shape=size)) for size in sizes]
    with torch.no_grad():
        WATCHER.test_step(dict(inputs=inputs, data_samples=samples))
    hook._watch.remove()
    for view, size in zip(views, sizes, strict=True):
        picture = as_picture(view.picture)
        assert picture.shape[:2] == size
        panels = mask_panels(picture, view.traces, 'block', view.index, view.input_size)
        for panel, trace in zip(panels, view.traces, strict=True):
            patch = STRIDES[trace.name.partition('.')[0]] * trace.granularity
            rows, columns = (np.arange(edge) // patch for edge in size)
            wanted = trace.mask[view.index, 0].bool().numpy()[np.ix_(rows, columns)]
            assert ((panel.image[..., 0] == 200) == wanted).all()
            assert (panel.image[~wanted] == round(200 * DIMMED)).all()


@settings(max_examples=30)
@given(SIZES, st.sampled_from(['resnet', 'densenet']))
def test_an_image_has_the_same_pixels_computed_whatever_the_strides_cut(size, kind):
    torch.manual_seed(0)
    if kind == 'resnet':
        network = LASResNet(18, granularity='1-1-1-all', base_channels=4, stem_channels=4)
        strides = [4, 4, 8, 8, 16, 16, 32, 32]
    else:
        arch = dict(growth_rate=4, depths=[1, 1, 1, 1], init_channels=8)
        network, strides = LASDenseNet(arch, granularity='1-1-1-1'), [4, 8, 16, 32]
    with torch.no_grad():
        network.eval()(torch.randn(1, 3, *size))
    for trace, maps, stride in zip(
        network.traces, computed_pixels(network.traces, size), strides, strict=True
    ):
        wanted = torch.zeros(size)
        for row in range(size[0]):  # of a DenseNet's cut last cell the nearest one decides
            cells = torch.arange(size[1]) // stride
            cell = min(row // stride, trace.size[0] - 1)
            wanted[row] = trace.pixel_mask[0, 0, cell, cells.clamp(max=trace.size[1] - 1)]
        assert torch.equal(maps[0], wanted)


def test_a_second_test_or_view_of_an_image_has_files_of_its_own(tmp_path):
    hook = MaskVisualizationHook()
    _, backends = after_test([hook], WATCHER, tmp_path, [(40, 40)] * 2, tests=3)
    names = {path.stem for path in (tmp_path / 'masks').iterdir()}
    assert names == {'0', '1', '0_2', '1_2', '0_3', '1_3'}
    assert {name for name, _ in backends['kept'].images} == {f'masks/{name}' for name in names}


def test_names_longer_than_a_file_may_have_are_cut(tmp_path):
    paths = ['図' * 90 + f'{index}.jpg' for index in range(2)]
    after_test([MaskVisualizationHook()], WATCHER, tmp_path, [(40, 40)] * 2, paths)
    assert len(list((tmp_path / 'masks').iterdir())) == 2


def test_two_hooks_draw_into_folders_of_their_own_or_not_at_all(tmp_path):
    hooks = [MaskVisualizationHook(), MaskVisualizationHook('block', out_dir='blocks')]
    _, backends = after_test(hooks, WATCHER, tmp_path, [(40, 40)])
    assert {name for name, _ in backends['kept'].images} == {'masks/0', 'blocks/0'}
    hooks = [MaskVisualizationHook(), MaskVisualizationHook('block', out_dir=None)]
    with pytest.raises(ValueError, match="out_dir: got 'masks' of a MaskVisualizationHook and a"):
        after_test(hooks, WATCHER, tmp_path, [(40, 40)])


def test_every_backend_gets_each_picture(tmp_path):
    backends = {'one': Backend(), 'two': Backend(), 'files': LocalVisBackend(str(tmp_path / 'v'))}
    hook = MaskVisualizationHook(out_dir=None)
    after_test([hook], WATCHER, tmp_path, [(40, 50)] * 3, backends=backends)
    assert len(backends['one'].images) == len(backends['two'].images) == 3
    assert len(list((tmp_path / 'v').rglob('masks/*.png'))) == 3


def test_a_backend_that_fails_is_named_in_one_line(tmp_path):
    backends = {'good': Backend(), 'bad': Backend(RuntimeError('no route to host'))}
    with pytest.raises(OSError, match='Backend, Backend took no picture .*no route to host.*mend'):
        after_test([MaskVisualizationHook()], WATCHER, tmp_path, [(40, 40)], backends=backends)


def test_a_file_of_an_earlier_test_is_not_taken_for_a_picture(tmp_path, monkeypatch):
    backends, size = {'files': LocalVisBackend(str(tmp_path / 'v'))}, [(40, 40)]
    hook = MaskVisualizationHook(out_dir=None)
    after_test([hook], WATCHER, tmp_path, size, backends=backends)
    monkeypatch.setattr('cv2.imwrite', lambda path, image: False)
    hook = MaskVisualizationHook('block', out_dir=None)
    with pytest.raises(OSError, match='0_3.png could not be written'):
        after_test([hook], WATCHER, tmp_path, size, backends=backends)


class Mirroring(DetDataPreprocessor):
    """Somebody's own, which moves pixels."""

    def forward(self, data: dict, training: bool = False) -> dict:
        data = super().forward(data, training)
        return dict(data, inputs=data['inputs'].flip(-1))


@pytest.mark.parametrize('options', [dict(preprocessor=Mirroring), dict(runs=2)])
def test_where_an_image_may_lie_otherwise_the_network_s_own_input_is_shown(options, tmp_path):
    model, kept = Watcher(divisor=32, **options).eval(), []
    hook = MaskVisualizationHook()
    hook._hand_over = lambda name, picture: kept.append(picture)
    seen = []
    model.backbone.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    views, draw = [], hook._draw
    hook._draw = lambda view: (views.append(view), draw(view))
    after_test([hook], model, tmp_path, [(40, 50)])
    assert torch.equal(views[0].picture, seen[-1][0]) and len(kept) == 1


def test_a_teacher_s_pictures_are_those_that_the_detector_was_given(tmp_path):
    model, _, _ = soft_teacher()
    hook, views = MaskVisualizationHook(), []
    hook._draw = views.append
    inputs, _ = after_test([hook], model.eval(), tmp_path, [(64, 64)] * 2)
    assert [view.doubt for view in views] == [None, None]
    for view, image in zip(views, inputs, strict=True):
        assert torch.equal(view.picture, image)


def test_a_test_without_a_picture_is_an_error(tmp_path):
    model, _, _ = soft_teacher()
    hook = MaskVisualizationHook(backbone='student.backbone')
    with pytest.raises(ValueError, match='no picture was drawn, as the backbone ran in no'):
        after_test([hook], model.eval(), tmp_path, [(64, 64)])


@pytest.mark.parametrize('channels', [1, 3, 5])
def test_inputs_of_any_range_and_number_of_channels_become_pictures(channels):
    image = torch.arange(channels * 6).view(channels, 2, 3)
    plain = as_picture(image.to(torch.uint8))
    assert plain.shape == (2, 3, 3) and plain.dtype == np.uint8
    assert (as_picture(image.float()) == plain).all()
    assert plain[0, 0].tolist() == ([0] * 3 if channels == 1 else [12, 6, 0])
    stretched = as_picture(image.float() - 3)
    assert stretched.min() == 0 and stretched[..., 0].max() == 255
