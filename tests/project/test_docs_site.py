"""The site of the docs: it is made without a warning, and its links lead somewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip('sphinx', reason='what makes the site is not installed: requirements/docs.txt')


class Page(HTMLParser):
    """Anchors, links and names without a link of a page.

    Attributes:
        anchors: What can be linked to.
        links: Where its links and pictures lead.
        unlinked: Names that are no links: nothing here documents them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors, self.links, self.unlinked = {''}, [], []
        self._in_link = self._reference = False
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        self.anchors.add(values.get('id') or '')
        self.links += [values[key] for key in ('href', 'src') if values.get(key)]
        self._in_link = self._in_link or tag == 'a'
        self._reference = 'xref py' in (values.get('class') or '') or (
            self._reference and tag == 'span'
        )

    def handle_endtag(self, tag: str) -> None:
        self._in_link = self._in_link and tag != 'a'

    def handle_data(self, data: str) -> None:
        if self._reference and not self._in_link:
            self.unlinked.append(data)
        self._reference = False


@pytest.fixture(scope='module')
def site(repo_root, tmp_path_factory) -> dict[Path, Page]:
    """The pages of the site by their paths."""
    out = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'sphinx', '-b', 'html', '-W', '--keep-going', '-q']
    done = subprocess.run(
        [*command, 'docs', str(out)], cwd=repo_root, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return {path: Page(path) for path in out.rglob('*.html')}


def test_links_lead_to_pages_files_and_anchors_that_exist(site):
    internal = 0
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith('data:'):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f'{path.name}: {link}'
            if target in site:
                assert unquote(parts.fragment) in site[target].anchors, f'{path.name}: {link}'
            internal += 1
    assert internal > 1000


def names_in_docstrings(repo_root: Path) -> set[str]:
    """What docstrings refer to, as Sphinx shows it."""
    found = set()
    for package in ('las_mm', 'latency_predictor'):
        for path in (repo_root / package).rglob('*.py'):
            roles = re.findall(r':(class|func|meth|attr|mod):`(~?)([\w.]+)`', path.read_text())
            for kind, short, name in roles:
                shown = name.rpartition('.')[2] if short else name
                found.add(f'{shown}()' if kind in ('func', 'meth') else shown)
    return found


def test_what_docstrings_refer_to_is_found(site, repo_root):
    wanted = names_in_docstrings(repo_root)
    assert len(wanted) > 30
    unlinked = {(path.name, name) for path, page in site.items() for name in page.unlinked}
    assert not {(page, name) for page, name in unlinked if name in wanted}


def test_every_page_can_be_reached_from_the_index(site):
    [index] = [path for path in site if path.name == 'index.html']
    reached, front = set(), [index]
    while front:
        path = front.pop()
        if path in site and path not in reached:
            reached.add(path)
            links = [urlsplit(link) for link in site[path].links]
            front += [(path.parent / unquote(p.path)).resolve() for p in links if not p.scheme]
    assert not {path.name for path in set(site) - reached}


def test_the_reference_has_what_users_call(site):
    anchors = set().union(*(page.anchors for page in site.values()))
    for name in (
        'las_mm.optimize_for_inference',
        'las_mm.layers.Branch',
        'las_mm.layers.branch.Step',
        'las_mm.hooks.SparsityLossHook',
        'las_mm.models.resnet_mmdet.LASResNet',
        'latency_predictor.LatencyModel',
    ):
        assert name in anchors
