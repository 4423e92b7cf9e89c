"""A headless Chromium that runs a page and says what became of it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
FLAGS = [
    *('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'),
    *('--disable-background-networking', '--disable-component-update', '--disable-sync'),
    *('--enable-logging=stderr', '--v=0', '--virtual-time-budget=2000', '--dump-dom'),
]
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason='chromium is not installed (Debian package chromium)'
)


def run_page(
    page: Path, profile: Path, script: str = '', width: int = 1100
) -> tuple[str, list[str]]:
    """The page's document after its scripts and ``script`` ran, and what it wrote to the console.

    ``script`` runs once everything is loaded, as part of a copy of the page.
    """
    loaded = page.with_name(f'run_{page.name}')
    ending = f"<script>addEventListener('load', () => {{ {script} }})</script></body>"
    loaded.write_text(page.read_text(encoding='utf-8').replace('</body>', ending), 'utf-8')
    command = [CHROMIUM, *FLAGS, f'--user-data-dir={profile}', f'--window-size={width},900']
    done = subprocess.run(
        [*command, loaded.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, re.findall(r'CONSOLE[^\n]*', done.stderr)
