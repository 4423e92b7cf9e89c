"""How Sphinx makes the site of these pages and of the docstrings: ``make docs``."""

import os
import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = 'las_mm'
release = runpy.run_path(str(ROOT / 'las_mm' / 'version.py'))['__version__']
extensions = ['myst_parser', 'sphinx.ext.apidoc', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
html_theme = 'furo'
html_title = f'las_mm {release}'
html_copy_source = False
html_domain_indices = False
exclude_patterns = ['site', 'experiments', 'experiments_digits', 'api/*/modules.rst']

myst_heading_anchors = 3

# One page a package. Triton compiles its kernels: nobody calls them from Python.
apidoc_modules = [
    dict(
        path=f'../{package}',
        destination=f'api/{package}',
        exclude_patterns=['**/__main__.py', '**/triton/kernels/**'],
        module_first=True,
        automodule_options={'members', 'show-inheritance'},
    )
    for package in ('las_mm', 'latency_predictor')
]
autodoc_member_order = 'bysource'
autodoc_use_type_comments = False  # we have none, and looking for them takes a while
napoleon_use_ivar = True


# Pages that stand elsewhere in the checkout, by their names in the site.
ELSEWHERE = {
    'overview': 'README.md',
    'contributing': 'CONTRIBUTING.md',
    'predictor': 'latency_predictor/README.md',
    'validation': 'latency_predictor/VALIDATION.md',
}


def fetch(app, page: str, source: list[str]) -> None:
    """Put a page that stands elsewhere in the place of the one that points there."""
    if page not in ELSEWHERE:
        return
    path = ROOT / ELSEWHERE[page]
    pages = {(ROOT / file).resolve(): f'{name}.md' for name, file in ELSEWHERE.items()}

    def relink(match: re.Match) -> str:
        target = (path.parent / match[1]).resolve()
        return f']({pages.get(target) or os.path.relpath(target, app.srcdir)})'

    source[0] = re.sub(r'\]\((?!https:|#)([^)]+)\)', relink, path.read_text(encoding='utf-8'))


def leave_out(app, what, name, member, skip, options) -> bool | None:
    """Leave a function out of its package's page if a module there has the same name."""
    inner = f'{getattr(member, "__module__", "")}'.rpartition('.')
    page = app.env.docname.rpartition('/')[2]
    return True if what == 'module' and inner[::2] == (page, name) else None


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect('source-read', fetch)
    app.connect('autodoc-skip-member', leave_out)
