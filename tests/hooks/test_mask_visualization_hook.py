"""MaskVisualizationHook: PNG files and TensorBoard pictures of a test run."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer
from mmpretrain.models import AverageClsScoreTTA
from mmpretrain.structures import DataSample
from test_sparsity_hook import build

from las_mm.hooks import MaskVisualizationHook


class Recorder:
    """A visualizer that keeps what it is given."""

    _vis_backends = {'recorder': None}

    def __init__(self):
        self.images = {}

    def add_image(self, name, image, step):
        self.images[name] = (image, step)


def run_test(hook, work_dir, batches=2, images=2, visualizer=None, paths='in/{}_{}.jpg', wrap=None):
    """A test of a classifier with the hook."""
    model = build('classifier').eval()
    runner = SimpleNamespace(
        model=model if wrap is None else wrap(model),
        work_dir=str(work_dir),
        visualizer=visualizer or Recorder(),
        iter=7,
        logger=logging.getLogger('las_mm'),
    )
    hook.before_test(runner)
    for index in range(batches):
        inputs = torch.randint(0, 256, (images, 3, 64, 64), dtype=torch.uint8)
        samples = [
            DataSample(metainfo=dict(img_path=paths.format(index, i), img_shape=(48, 64)))
            for i in range(images)
        ]
        data = dict(inputs=inputs, data_samples=samples)
        with torch.no_grad():
            if wrap is None:
                model.test_step(data)
            else:
                runner.model.test_step({name: [part, part] for name, part in data.items()})
    hook.after_test(runner)
    return runner


def test_pictures_reach_the_work_dir_and_the_visualizer(tmp_path):
    runner = run_test(MaskVisualizationHook(), tmp_path)
    names = ['0_0', '0_1', '1_0', '1_1']
    files = sorted(path.name for path in (tmp_path / 'masks').iterdir())
    assert files == [f'{name}.png' for name in names]
    assert sorted(runner.visualizer.images) == [f'masks/{n}' for n in names]
    image, step = runner.visualizer.images['masks/0_0']
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert image.std() > 0 and step == 7


def test_interval_and_limit_choose_images(tmp_path):
    run_test(MaskVisualizationHook(interval=2), tmp_path / 'a')
    assert {p.stem for p in (tmp_path / 'a' / 'masks').iterdir()} == {'0_0', '1_0'}
    run_test(MaskVisualizationHook(limit=3), tmp_path / 'b')
    assert {p.stem for p in (tmp_path / 'b' / 'masks').iterdir()} == {'0_0', '0_1', '1_0'}


def test_without_a_folder_only_the_visualizer_gets_them(tmp_path):
    runner = run_test(MaskVisualizationHook(out_dir=None, level='block'), tmp_path)
    assert not list(tmp_path.iterdir())
    blocks, stages = runner.visualizer.images, run_test(MaskVisualizationHook(), tmp_path)
    other = stages.visualizer.images['masks/0_0'][0]
    assert blocks['masks/0_0'][0].shape != other.shape, 'eight blocks, four stages'


def test_tensorboard_gets_the_pictures(tmp_path):
    pytest.importorskip('tensorboard', reason='tensorboard is not installed')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    backend = TensorboardVisBackend(save_dir=str(tmp_path / 'tb'))
    visualizer = Visualizer.get_instance('masks-to-tensorboard')
    visualizer._vis_backends = {'tb': backend}
    run_test(MaskVisualizationHook(out_dir=None), tmp_path, batches=1, visualizer=visualizer)
    backend.close()
    events = EventAccumulator(str(tmp_path / 'tb'))
    events.Reload()
    assert sorted(events.Tags()['images']) == ['masks/0_0', 'masks/0_1']


def test_each_view_of_an_image_has_a_picture_of_its_own(tmp_path):
    run_test(
        MaskVisualizationHook(), tmp_path, batches=1, wrap=lambda m: AverageClsScoreTTA(module=m)
    )
    names = {path.stem for path in (tmp_path / 'masks').iterdir()}
    assert names == {'0_0', '0_1', '0_0_2', '0_1_2'}


@pytest.mark.parametrize(
    'paths',
    [
        '{}/{}/same.jpg',
        '{}/{}.jpg',
        'same{}.jpg',
        'Bild {} über {}.png',
        'x' * 200 + '{}{}.jpg',
        '{}/SAME{}.jpg',
    ],
)
def test_two_images_never_share_a_file(tmp_path, paths):
    run_test(MaskVisualizationHook(), tmp_path, paths=paths)
    names = [path.stem for path in (tmp_path / 'masks').iterdir()]
    assert len(names) == len({name.casefold() for name in names}) == 4


def test_pictures_that_nobody_takes_are_refused_before_the_test(tmp_path):
    visualizer = SimpleNamespace(_vis_backends={})
    with pytest.raises(
        ValueError, match='out_dir: got None, but the visualizer has no vis_backends'
    ):
        run_test(MaskVisualizationHook(out_dir=None), tmp_path, visualizer=visualizer)


def test_local_backends_write_files_and_failures_are_named(tmp_path, monkeypatch):
    backend = LocalVisBackend(save_dir=str(tmp_path / 'vis'))
    visualizer = Visualizer.get_instance('masks-to-files')
    visualizer._vis_backends = {'local': backend}
    run_test(MaskVisualizationHook(out_dir=None), tmp_path, visualizer=visualizer)
    assert len(list((tmp_path / 'vis').rglob('masks/*.png'))) == 4
    monkeypatch.setattr('cv2.imwrite', lambda path, image: False)
    with pytest.raises(OSError, match='masks: .*other_0_0_7.png could not be written'):
        run_test(
            MaskVisualizationHook(out_dir=None),
            tmp_path,
            visualizer=visualizer,
            paths='other_{}_{}.jpg',
        )


@pytest.mark.parametrize(
    'options', [dict(level='pixel'), dict(interval=0), dict(limit=0), dict(columns='six')]
)
def test_wrong_options_are_named(options):
    ((field, value),) = options.items()
    with pytest.raises((TypeError, ValueError), match=f'{field}: got {value!r}'):
        MaskVisualizationHook(**options)
