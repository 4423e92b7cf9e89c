"""Shell scripts of the tools name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / 'tools').rglob('*.sh'))


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda script: script.name)
def test_what_a_script_names_exists(script):
    text = script.read_text()
    folder = re.search(r'^cd "\$\(dirname "\$0"\)/([./]+)"$', text, re.MULTILINE)
    start = (script.parent / folder[1]).resolve() if folder else ROOT
    assert start == ROOT
    for path in re.findall(r'(?<![\w./$}-])(?:tools|tests|las_mm)/[\w./-]+\.(?:py|sh)\b', text):
        assert (start / path).is_file(), path


def test_the_sanitizers_run_the_tests_of_all_native_code():
    script = (ROOT / 'tools' / 'misc' / 'sanitize_cpu.sh').read_text()
    named = set(re.findall(r'tests/[\w/]+\.py', script))
    assert {f'tests/executors/test_{name}.py' for name in ('channel_skipping', 'chain')} <= named
