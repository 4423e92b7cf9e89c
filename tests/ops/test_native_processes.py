"""Processes and threads that build at once: one does, the others wait, none is in the way later."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from forks import start_child, wait_for
from tiny_extension import Tiny

from las_mm.ops.native import build


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    return Tiny(tmp_path, monkeypatch)


def load() -> bool:
    return build.load_native.__wrapped__()[1] is None


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_of_several_processes_builds(tiny):
    tiny.compiler('sleep 0.2')
    children = [start_child(load) for _ in range(3)]
    for child in children:
        wait_for(child)
    assert tiny.builds == 1
    assert tiny.load() is None and tiny.builds == 1


def test_without_locks_all_build_and_none_breaks_what_another_keeps(tiny, monkeypatch):
    def fail(file, operation):
        raise OSError

    monkeypatch.setattr('fcntl.flock', fail)
    children = [start_child(load) for _ in range(3)]
    for child in children:
        wait_for(child)
    assert tiny.load() is None


@pytest.mark.parametrize('when', ['compiling', 'writing'])
def test_after_a_kill_the_next_one_builds(tiny, when, monkeypatch):
    if when == 'compiling':
        tiny.compiler('sleep 0.5')
    with monkeypatch.context() as patch:
        if when == 'writing':
            patch.setattr(os, 'fsync', lambda handle: time.sleep(60))
        child = start_child(load)
    pattern = 'build-*' if when == 'compiling' else '*.tmp'
    until(lambda: list(tiny.cache.rglob(pattern)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert list(tiny.cache.rglob(pattern))
    assert tiny.load() is None and tiny.library.is_file()


def test_threads_that_ask_at_once_get_the_same(tiny):
    calls = []

    def load_and_count():
        calls.append(threading.get_ident())
        return build.load_native.__wrapped__()

    ask = build.once(load_and_count)
    tiny.compiler('sleep 0.1')
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(), range(6)))
    assert answers[0][1] is None and len(calls) == 1  # classes are defined once
    assert all(answer is answers[0] for answer in answers)


def test_a_fork_while_another_thread_builds(tiny):
    """The child neither waits for a thread that it has not got, nor keeps the lock."""
    ask = build.once(build.load_native.__wrapped__)
    tiny.compiler('sleep 0.3')
    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: list(tiny.cache.rglob('build-*')))
    sleeper = start_child(lambda: time.sleep(30) or True)
    child = start_child(lambda: ask()[1] is None)
    thread.join()
    wait_for(child)
    assert ask()[1] is None and tiny.builds == 1
    assert tiny.load() is None, 'although a child has the lock open'
    tiny.library.unlink()
    assert tiny.load() is None and tiny.builds == 2
    os.kill(sleeper, signal.SIGKILL)
    os.waitpid(sleeper, 0)
