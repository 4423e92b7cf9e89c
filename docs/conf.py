"""How Sphinx makes the site of these pages and of the docstrings: ``make docs``."""

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
exclude_patterns = ['site', 'experiments']

myst_heading_anchors = 3

# One page a package. Triton's kernels are no functions that Python could call.
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
napoleon_use_ivar = True
