"""Children of this process that must come to an end."""

import os
import signal
import time
import traceback
from collections.abc import Callable

import pytest


def start_child(work: Callable[[], bool]) -> int:
    """Fork a process that does the work and says whether it returned true."""
    child = os.fork()
    if child == 0:
        done = False
        try:
            done = work()
        except BaseException:
            traceback.print_exc()
        os._exit(0 if done else 1)
    return child


def wait_for(child: int, seconds: float = 30) -> None:
    """Fail the test unless the child ends well in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail('the child does not come to an end')
