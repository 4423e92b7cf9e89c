"""Tiles are chosen once for each kernel, shape and device, also if some of them do not run."""

import json
import logging

import pytest
import torch

from las_mm.executors.triton.sizes import half_list
from las_mm.executors.triton.tiles import conv_tiles

tuning = pytest.importorskip(
    'las_mm.executors.triton.tuning', reason='Triton is not installed', exc_type=ImportError
)


class FakeGPU:
    """Stands for timing on a GPU: the third tile is the fastest."""

    def __init__(self, monkeypatch, folder):
        self.timed, self.errors, self.capturing, self.full = [], {}, False, False
        self.tiles, self.folder = conv_tiles(torch.float16, 256, 256), folder
        monkeypatch.setenv('LAS_MM_CACHE', str(folder))
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'Some GPU')
        monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: self.capturing)
        monkeypatch.setattr(tuning, 'time_graph', self._time)
        self.restart()

    def _time(self, run, device):
        assert device == torch.device('cuda', 1)
        run()
        return abs(self.tiles.index(self.timed[-1]) - 2)

    def _run(self, tile):
        self.timed.append(tile)
        if error := self.errors.get(self.tiles.index(tile)):
            raise error

    def restart(self):
        tuning._load.cache_clear()
        tuning._chosen.clear()

    def _scratch(self):
        if self.full:
            raise torch.OutOfMemoryError
        return self._run

    def choose(self, shape='a shape', tune=True):
        device = torch.device('cuda', 1)
        return tuning.choose_tile('kernel', shape, device, self.tiles, self._scratch, tune)


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    gpu = FakeGPU(monkeypatch, tmp_path / 'cache')
    yield gpu
    gpu.restart()


def test_tiles_are_timed_once_and_kept_on_disk(gpu):
    assert gpu.choose(tune=False) == gpu.tiles[0] and not gpu.timed
    for _ in range(2):
        assert gpu.choose() == gpu.tiles[2] and gpu.timed == list(gpu.tiles)
    gpu.restart()
    assert gpu.choose() == gpu.tiles[2] and gpu.timed == list(gpu.tiles)
    assert gpu.choose(tune=False) == gpu.tiles[2]
    gpu.choose('another shape')
    assert len(gpu.timed) == 2 * len(gpu.tiles)


def test_nothing_is_timed_while_a_graph_is_captured(gpu):
    gpu.capturing = True
    assert gpu.choose() == gpu.tiles[0] and not gpu.timed
    gpu.capturing = False
    assert gpu.choose() == gpu.tiles[2]
    gpu.capturing = True
    assert gpu.choose() == gpu.tiles[2]


def test_tiles_that_do_not_run_are_left_out(gpu):
    gpu.errors = {
        0: tuning.TritonError('out of resource: shared memory'),
        2: RuntimeError('PassManager::run failed'),
    }
    assert gpu.choose() == gpu.tiles[1] and len(gpu.timed) == len(gpu.tiles)


def test_where_memory_is_short_the_first_one_is_taken_for_now(gpu):
    gpu.full = True
    assert gpu.choose() == gpu.tiles[0]
    gpu.full = False
    assert gpu.choose() == gpu.tiles[2]


def test_if_none_runs_the_reason_is_told_and_nothing_kept(gpu):
    gpu.errors = dict.fromkeys(range(len(gpu.tiles)), tuning.TritonError('out of resource'))
    with pytest.raises(tuning.TritonError, match='out of resource'):
        gpu.choose()
    gpu.errors = {}
    assert gpu.choose() == gpu.tiles[2]


def test_choices_of_other_processes_are_kept(gpu):
    gpu.choose('mine')
    path = tuning.cache_file(torch.device('cuda', 1))
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({'theirs': entries['kernel mine']}))
    gpu.choose('mine, too')
    assert {'theirs', 'kernel mine, too'} <= set(json.loads(path.read_text()))


@pytest.mark.parametrize('content', ['{', '[]', '{"kernel a shape": {"rows": 1}}'])
def test_broken_cache_is_left_aside(gpu, caplog, content):
    path = tuning.cache_file(torch.device('cuda', 1))
    path.parent.mkdir()
    path.write_text(content)
    with caplog.at_level(logging.WARNING, logger='las_mm'):
        assert gpu.choose() == gpu.tiles[2]
    assert 'is left aside, tiles are timed anew' in caplog.text


@pytest.mark.parametrize('fault', ['no home', 'read-only', 'full'])
def test_without_a_place_to_keep_them_choices_are_known_to_this_process(gpu, fault, monkeypatch):
    def fail(*args):
        raise RuntimeError if fault == 'no home' else OSError

    if fault == 'no home':
        monkeypatch.delenv('LAS_MM_CACHE')
        monkeypatch.setattr('pathlib.Path.home', fail)
    elif fault == 'read-only':
        monkeypatch.setenv('LAS_MM_CACHE', '/proc/las_mm')
    else:
        monkeypatch.setattr('os.fsync', fail)
    for _ in range(2):
        assert gpu.choose() == gpu.tiles[2] and gpu.timed == list(gpu.tiles)
    assert not list(gpu.folder.rglob('*.*')), 'nothing half-written is left'


@pytest.mark.parametrize('pixels', [1, 6, 7])
def test_tiles_are_timed_on_half_of_the_pixels(pixels):
    listed, count = half_list(pixels, torch.device('cpu'))
    assert listed.tolist() == list(range(pixels))
    assert count.tolist() == [(pixels + 1) // 2]
