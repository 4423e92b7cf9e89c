"""A training from the command line that must fail."""

import pytest
from runs import data_options

LAS = 'configs/faster_rcnn_las_r50_4-4-2-1_demo.py'


@pytest.fixture
def train(fail, tmp_path, demo_coco):
    """Run a training of the demo's detector on tiny data that must fail; returns its line."""

    def train(*options, argv=(), data=demo_coco, config=LAS, lines=1) -> str:
        shared = ['--work-dir', tmp_path / 'work', *argv, '--cfg-options']
        return fail('train', config, *shared, *data_options(data), *options, lines=lines)

    return train
