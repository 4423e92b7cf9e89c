"""The extension is built wherever it can be, and what is in the cache never ends the process."""

import errno
import fcntl
import os
import shutil

import pytest
from tiny_extension import SOURCE, Tiny

from las_mm.ops.native import build, library

BROKEN = {
    'empty': lambda whole: b'',
    'cut off': lambda whole: whole[:5000],
    'half': lambda whole: whole[: len(whole) // 2],
    'without its last byte': lambda whole: whole[:-1],
    'without a digest': lambda whole: whole[: whole.rindex(library.MARK)],
    'one other byte': lambda whole: whole[:4096] + bytes([whole[4096] ^ 1]) + whole[4097:],
    'zeros at the end': lambda whole: whole[:6000] + bytes(len(whole) - 6000),
    'zeros': lambda whole: bytes(len(whole)),
    'longer': lambda whole: whole + b'x',
    'text': lambda whole: b'version https://git-lfs.github.com/spec/v1\n',
}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    return Tiny(tmp_path, monkeypatch)


def test_it_is_built_once_and_kept(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_EXTENSIONS_DIR', str(tmp_path / "PyTorch's own"))
    assert [tiny.load() for _ in range(3)] == [None] * 3 and tiny.builds == 1
    assert build.build_library() == tiny.library
    assert not (tmp_path / "PyTorch's own").exists()


def test_what_is_not_whole_is_built_again(tiny):
    tiny.load()
    whole = tiny.library.read_bytes()
    for count, (name, damage) in enumerate(BROKEN.items(), 2):
        tiny.library.write_bytes(damage(whole))
        assert tiny.load() is None, name
        assert tiny.builds == count, name
        assert library.read_library(tiny.library) is not None


def test_a_folder_in_its_place_is_left_alone(tiny, caplog):
    tiny.library.mkdir(parents=True)
    assert tiny.load() is None and tiny.library.is_dir()
    assert 'this process alone' in caplog.text
    with pytest.raises(OSError, match='cannot be written'):
        build.build_library()


def test_what_happens_to_the_file_later_is_not_noticed(tiny):
    native, _ = build.load_native.__wrapped__()
    os.truncate(tiny.library, 0)
    assert native.answer() == 42


def test_other_sources_and_other_builds_of_pytorch_have_another_key(tiny, monkeypatch):
    keys = {build.build_key()}
    tiny.write(SOURCE + '// changed')
    keys.add(build.build_key())
    for name, value in (
        ('torch.__version__', '2.0.0'),
        ('torch.version.git_version', 'abc'),
        ('torch.compiled_with_cxx11_abi', lambda: 'another'),
        ('platform.machine', lambda: 'another'),
        ('sys.version', '3.9'),
    ):
        monkeypatch.setattr(name, value)
        keys.add(build.build_key())
    assert len(keys) == 7


@pytest.mark.parametrize('named', ['relative', './a b/é', '~/below', 'HOME'])
def test_where_the_cache_is(tiny, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('LAS_MM_CACHE', '' if named == 'HOME' else named)
    wanted = {'~/below': 'home/below', 'HOME': 'home/.cache/las_mm'}.get(named, named)
    tiny.cache = tmp_path / wanted
    assert tiny.load() is None and tiny.library.is_file()


def no_home():
    raise RuntimeError('Could not determine home directory.')


@pytest.mark.parametrize('fault', ['no home', 'read-only', 'below a file', 'full', 'quota'])
def test_without_a_place_to_keep_it_this_process_alone_uses_it(tiny, fault, monkeypatch, caplog):
    if fault == 'no home':
        monkeypatch.delenv('LAS_MM_CACHE')
        monkeypatch.setattr('pathlib.Path.home', no_home)
    elif fault == 'read-only':
        monkeypatch.setenv('LAS_MM_CACHE', '/proc/las_mm')
    elif fault == 'below a file':
        tiny.cache.write_text('')
    else:
        code = errno.ENOSPC if fault == 'full' else errno.EDQUOT

        def fail(handle):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, 'fsync', fail)
    assert tiny.load() is None and tiny.builds == 1
    (said,) = [r.getMessage() for r in caplog.records if 'this process alone' in r.getMessage()]
    assert 'LAS_MM_CACHE' in said


def test_where_the_cache_has_no_room_to_build_the_temporary_folder_has(tiny):
    full = 'case "$PWD" in *"cache of"*) echo "a.s: No space left on device" >&2; exit 1;; esac'
    tiny.compiler(full)
    assert tiny.load() is None and tiny.library.is_file()
    shutil.rmtree(tiny.cache)
    tiny.compiler('echo "a.s: No space left on device" >&2; exit 1')
    assert 'No space left on device' in (reason := tiny.load()) and 'TMPDIR' in reason


def test_compilers(tiny, monkeypatch):
    path = tiny.compiler()
    tiny.monkeypatch.setenv('CXX', f'env "{path}" -g0')
    assert tiny.load() is None
    for command in ('nowhere/c++', '"c++', str(tiny.sources)):
        shutil.rmtree(tiny.cache)
        monkeypatch.setenv('CXX', command)
        assert 'which is no command' in tiny.load()
    monkeypatch.delenv('CXX')
    monkeypatch.setenv('PATH', str(tiny.tools))
    path.unlink()
    assert 'none of c++, g++, clang++ is on PATH' in tiny.load()


def test_any_compiler_of_the_system_will_do(tiny, monkeypatch):
    path = tiny.compiler('echo "error: no OpenMP" >&2; exit 1')
    os.rename(tiny.compiler(name='clang++'), path.with_name('clang++'))
    monkeypatch.delenv('CXX')
    monkeypatch.setattr('las_mm.ops.native.compilation.COMPILERS', ('c++', 'clang++'))
    monkeypatch.setenv('PATH', str(tiny.tools), prepend=os.pathsep)
    assert tiny.load() is None
    path.with_name('clang++').unlink()
    shutil.rmtree(tiny.cache)
    assert 'no OpenMP' in tiny.load()


def test_errors_of_the_compiler_are_the_reason(tiny):
    tiny.write('#include <nowhere.h>')
    assert 'nowhere.h: No such file' in tiny.load()
    tiny.compiler('kill -9 $$')
    assert 'ended with -9' in tiny.load()


def test_what_cannot_be_imported_is_built_again_once(tiny, caplog):
    tiny.write('extern "C" int missing();' + SOURCE.replace('42', 'missing()'))
    assert 'undefined symbol: missing' in tiny.load() and tiny.builds == 2
    foreign = library.read_library(tiny.library)
    tiny.write(SOURCE)
    library.keep_library(tiny.library, foreign)  # as from another system
    assert tiny.load() is None and tiny.builds == 3
    assert 'is built again' in caplog.text
    assert tiny.load() is None and tiny.builds == 3


def test_without_files_in_memory_a_file_is_imported(tiny, monkeypatch):
    monkeypatch.delattr(os, 'memfd_create')
    assert tiny.load() is None


@pytest.mark.parametrize('lock', ['none on this file system', 'held for too long'])
def test_locks_that_do_not_work_stop_nobody(tiny, lock, monkeypatch):
    def fail(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    tiny.library.parent.mkdir(parents=True)
    with open(tiny.library.parent / 'lock', 'w') as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if lock.startswith('none'):
            monkeypatch.setattr(fcntl, 'flock', fail)
        monkeypatch.setattr(build, 'LONGEST_WAIT', 0.2)
        assert tiny.load() is None and tiny.builds == 1


def test_an_installed_one_is_used_if_it_is_whole_and_of_these_sources(tiny, tmp_path, caplog):
    path = tmp_path / '_native.cpython-311-x86_64-linux-gnu.so'
    whole = library.read_library(build.build_library())
    shutil.rmtree(tiny.cache)
    for content in (whole, whole + library.MARK):
        path.write_bytes(content)
        assert tiny.load() is None and tiny.builds == 1, 'the installed one'
    for count, (name, damage) in enumerate(list(BROKEN.items())[:4], 2):
        path.write_bytes(damage(whole))
        assert tiny.load() is None and tiny.builds == count, name
        shutil.rmtree(tiny.cache)
    zeros = whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
    assert library.is_cut_off(zeros) and 'is cut off' in caplog.text
    path.write_bytes(whole.replace(build.build_key().encode(), b'0' * 16))
    assert tiny.load() is None and tiny.builds == 6
