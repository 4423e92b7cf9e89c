"""Runs the commands of ``setup_env.py`` with visible progress and a log. Standard library only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HEARTBEAT = 30  # seconds between lines about a running step when output is not a terminal


class SetupError(Exception):
    """What is missing on this machine, and what to do about it, in one line."""


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


class Steps:
    """Runs commands one after the other, shows what they do, keeps their output in a log."""

    def __init__(self, log: Path, total: int) -> None:
        self.log, self.total, self.done = log, total, 0

    def run(self, title: str, command: list, env: dict[str, str] | None = None) -> None:
        """Run one command.

        Raises:
            SetupError: It failed; the end of its output has been printed.
        """
        self.done += 1
        head = f'[{self.done}/{self.total}] {title}'
        start = time.monotonic()
        say(f'{head} ...')
        with self.log.open('ab') as log:
            offset = log.tell()
            process = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
            )
            try:
                self._watch(process, start)
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)  # on SIGTERM pip leaves its downloads behind
                    process.wait()
        if process.returncode:
            say('\n'.join(self._tail(15, offset)))
            raise SetupError(
                f'"{title}" failed with exit status {process.returncode}; its output is in '
                f'{self.log}; run again to go on from here'
            )
        say(f'{head}: done in {time.monotonic() - start:.0f} s')

    def _watch(self, process: subprocess.Popen, start: float) -> None:
        """Wait for a process and show its last line: always on a terminal, else now and then."""
        terminal = sys.stdout.isatty()
        while True:
            try:
                process.wait(1 if terminal else HEARTBEAT)
                break
            except subprocess.TimeoutExpired:
                line = f'      {time.monotonic() - start:4.0f} s  {"".join(self._tail(1))}'
                width = shutil.get_terminal_size().columns - 1
                end = '\r' if terminal else '\n'
                print(f'{line[:width]:<{width}}' if terminal else line[:80], end=end, flush=True)
        if terminal:
            print(' ' * (shutil.get_terminal_size().columns - 1), end='\r')

    def _tail(self, count: int, offset: int = 0) -> list[str]:
        """Return the last lines of the log from byte ``offset`` on, without pip's warnings."""
        with self.log.open('rb') as log:
            log.seek(max(offset, self.log.stat().st_size - 20_000))
            lines = log.read().decode(errors='replace').splitlines()
        return [line for line in lines if line.strip() and 'WARNING' not in line][-count:]
