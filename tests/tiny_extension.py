"""A C++ extension of a few lines, which stands for the real one where only its building matters."""

import os
import stat
from pathlib import Path

import pytest

from las_mm.ops.native import build, compilation

SOURCE = """
#include <Python.h>
#define STRING_(x) #x
#define STRING(x) STRING_(x)
static PyObject* answer(PyObject*, PyObject*) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, nullptr}, {}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, -1, methods};
PyMODINIT_FUNC PyInit__native() {
  PyObject* module = PyModule_Create(&definition);
  PyModule_AddStringConstant(module, "build_key", STRING(LAS_BUILD_KEY));
  return module;
}
"""
# Writes down how often it links; a folder of its own holds it, whose name needs quotes.
COMPILER = """#!/bin/sh
case " $* " in *" -shared "*) echo link >> "$(dirname "$0")/log";; esac
{before}
exec g++ "$@"
"""


class Tiny:
    """Its sources, cache and compiler in folders whose names have spaces and more in them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.sources, self.cache = folder / 'sources of $é 中文', folder / "cache of $é '中文"
        self.tools, self.temporary = folder / 'tools of é', folder / 'temporary files'
        for path in (self.sources, self.tools, self.temporary):
            path.mkdir()
        self.write(SOURCE)
        self.compiler()
        monkeypatch.setattr(compilation, 'FOLDER', self.sources)
        monkeypatch.setattr(build, '__file__', str(folder / 'build.py'))  # nothing is installed
        monkeypatch.setattr('tempfile.tempdir', str(self.temporary))
        monkeypatch.setenv('LAS_MM_CACHE', str(self.cache))

    def write(self, source: str) -> None:
        (self.sources / 'native.cpp').write_text(source)

    def compiler(self, before: str = '', name: str = 'c++') -> Path:
        """Make ``$CXX`` a script that does something before it compiles."""
        path = self.tools / name
        path.write_text(COMPILER.format(before=before))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.monkeypatch.setenv('CXX', str(path))
        return path

    @property
    def library(self) -> Path:
        return self.cache / build.build_key() / '_native.so'

    @property
    def builds(self) -> int:
        """How often it has been built."""
        log = self.tools / 'log'
        return len(log.read_text().splitlines()) if log.exists() else 0

    def load(self) -> str | None:
        """Load it as a new process does; the reason why that fails, None if it works."""
        before = dict(os.environ)
        native, reason = build.load_native.__wrapped__()
        assert dict(os.environ) == before
        if native is not None:
            assert native.answer() == 42 and native.build_key == build.build_key()
        assert (native is None) == (reason is not None)
        assert not list(self.temporary.iterdir()), 'files are left behind'
        rest = {path.name for path in self.cache.rglob('*') if path.is_file()}
        assert rest <= {'_native.so', 'lock'}, 'files are left behind'
        return reason
