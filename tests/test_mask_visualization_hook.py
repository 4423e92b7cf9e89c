"""MaskVisualizationHook: PNG files and TensorBoard pictures of a test run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectors import batch
from mmengine.structures import BaseDataElement
from mmengine.visualization import TensorboardVisBackend, Visualizer
from test_sparsity_hook import build

from las_mm.hooks import MaskVisualizationHook


class Recorder:
    """A visualizer that keeps what it is given."""

    def __init__(self):
        self.images = {}

    def add_image(self, name, image, step):
        self.images[name] = (image, step)


def run_test(hook, work_dir, batches=2, images=2, visualizer=None):
    """A test of a classifier with the hook."""
    model = build('classifier').eval()
    runner = SimpleNamespace(
        model=model, work_dir=str(work_dir), visualizer=visualizer or Recorder(), iter=7
    )
    hook.before_test(runner)
    for index in range(batches):
        inputs = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(images)]
        with torch.no_grad():
            model.backbone(torch.stack(inputs).float())
        samples = [
            BaseDataElement(metainfo=dict(img_path=f'in/{index}_{i}.jpg', img_shape=(48, 64)))
            for i in range(images)
        ]
        hook.after_test_iter(runner, index, dict(inputs=inputs), samples)
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


def test_several_views_of_an_image_are_left_alone(tmp_path):
    hook = MaskVisualizationHook()
    runner = run_test(hook, tmp_path, batches=0)
    with torch.no_grad():
        runner.model.backbone(batch(runner.model)['inputs'])
    hook.after_test_iter(runner, 0, dict(inputs=[]), [BaseDataElement()])
    assert not runner.visualizer.images


@pytest.mark.parametrize(
    'options', [dict(level='pixel'), dict(interval=0), dict(limit=0), dict(columns='six')]
)
def test_wrong_options_are_named(options):
    ((field, value),) = options.items()
    with pytest.raises((TypeError, ValueError), match=f'{field}: got {value!r}'):
        MaskVisualizationHook(**options)
