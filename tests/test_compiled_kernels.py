"""The C kernels where nothing was built when installing: compiled on first use and kept, or one sentence why not."""
from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, run_python
from test_ss2d import inputs

from basicsr.ops import backend, kernel_cache
from basicsr.ops.backend_table import BACKENDS
from basicsr.ops.native import compiled, flags
from basicsr.ops.native import library as native
from basicsr.ops.self_check import check
from basicsr.ops.ss2d import ss2d_scan
from basicsr.utils.errors import UserError

# counts its calls, and compiles without optimising, which takes a tenth of the time
QUICK = '#!/bin/sh\necho x >> {calls}\nexec cc "$@" -O0\n'


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home without a cache, a quick compiler, and a package without the extension."""
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.delenv('BASICSR_SCAN', raising=False)
    monkeypatch.setenv('CC', str(script(tmp_path / 'quick-cc', QUICK.format(calls=tmp_path / 'calls'))))
    monkeypatch.setattr(native, '_files', lambda: [])
    forget()
    yield tmp_path
    forget()


def forget():
    """As another process would start."""
    for cache in (native.kernels, native.best_isa, backend._decide, backend._log, backend._warn_slow):
        cache.cache_clear()


def start() -> native.Kernels:
    forget()
    return native.kernels()


def script(file, text):
    file.write_text(text)
    file.chmod(0o755)
    return file


def kept(home):
    return sorted((home / '.cache' / 'basicsr' / 'kernels').glob('*'))


def calls(home) -> int:
    return (home / 'calls').read_text().count('x') if (home / 'calls').is_file() else 0


def test_the_first_use_compiles_and_the_second_finds_it(home, messages):
    first = start()
    assert first.library is not None and native.why_not() is None and calls(home) == 1
    file, = kept(home)
    assert first.story == f"compiled on first use, '{file}'"
    assert messages == [
        f"compiling the C kernels of the selective scan with '{home / 'quick-cc'}': once, in 10 to 30 seconds"
    ]
    assert start().story == first.story and calls(home) == 1 and len(messages) == 1
    assert check(BACKENDS['native']).text.startswith('works')
    args = inputs(1, 5, 4, 9, 3, 2)
    fast = ss2d_scan(*args)
    assert any('backend native' in m for m in messages)
    os.environ['BASICSR_SCAN'] = 'reference'
    try:
        torch.testing.assert_close(fast, ss2d_scan(*args), rtol=1e-5, atol=1e-5)
    finally:
        del os.environ['BASICSR_SCAN']


@pytest.mark.parametrize('damage', [lambda b: b[:len(b) // 2], lambda b: b'', lambda b: b[:-9] + b'x' + b[-8:]])
def test_a_damaged_file_is_compiled_again(home, damage):
    start()
    file, = kept(home)
    whole = file.read_bytes()
    file.unlink()  # the library that this process has loaded stays as it is
    file.write_bytes(damage(whole))
    assert start().library is not None and calls(home) == 2
    assert kept(home) == [file] and file.read_bytes() == whole


def test_other_sources_flags_and_compilers_are_other_files(home, monkeypatch):
    names = {compiled._key()}
    monkeypatch.setattr(flags, 'COMPILE', (*flags.COMPILE, '-DMORE'))
    names.add(compiled._key())
    monkeypatch.setattr(flags, 'HEADERS', flags.HEADERS[:2])
    names.add(compiled._key())
    assert len(names) == 3
    traits = {compiled._trait()}
    script(home / 'quick-cc', '#!/bin/sh\nexec newer-cc "$@"\n')
    traits.add(compiled._trait())
    monkeypatch.setenv('CC', f"{home / 'quick-cc'} -m64")
    assert len(traits | {compiled._trait()}) == 3


# what the compiler does, and what is said of it
BROKEN = {
    'refuses': ('#!/bin/sh\necho warning: hm >&2\necho scan.c:8: fatal error: no stdint.h >&2\nexit 1\n',
                'exit status 1, scan.c:8: fatal error: no stdint.h'),
    'dies': ('#!/bin/sh\nkill -9 $$\n', 'exit status -9, it says nothing'),
    'makes nothing': ('#!/bin/sh\n', 'without a result'),
    'makes half': ('#!/bin/sh\nfor last; do :; done\nprintf "\\177ELF half" > "$last"\nexit 1\n', 'exit status 1'),
    'makes rubbish': ('#!/bin/sh\nfor last; do :; done\necho rubbish > "$last"\n', 'what it made cannot be loaded'),
    'is no program': ('\x7fELF no program\n', 'Exec format error'),
}


@pytest.mark.parametrize('how', BROKEN)
def test_a_broken_compiler_leaves_plain_pytorch_and_says_what_to_do(home, messages, how):
    text, said = BROKEN[how]
    script(home / 'quick-cc', text)
    y = ss2d_scan(*inputs(1, 3, 4, 5, 3, 2))
    assert y.isfinite().all() and native.library() is None and kept(home) == []
    story = native.why_not()
    with pytest.raises(UserError, match='the C kernels could not be compiled'):
        native.loaded()
    assert story.startswith(f"the C kernels could not be compiled with '{home / 'quick-cc'}': ") and said in story
    assert story.endswith('the variable CC may name a C compiler that works') and '\n' not in story
    assert messages[1:] == [f'selective scan (ss2d, float32 on cpu): backend torch; {story}'
                            ] and 'compiling' in messages[0]


def test_no_compiler(home, monkeypatch, messages):
    monkeypatch.setenv('CC', '/nowhere/cc -O1')
    assert "CC names '/nowhere/cc', which is not there" in start().story
    monkeypatch.delenv('CC')
    monkeypatch.setenv('PATH', str(home))
    assert start() == (None,
                       'the C kernels are not compiled: there is no C compiler; install gcc or clang, and the next'
                       ' start compiles them')
    assert compiled.compiler_here() == 'none' and messages == []


def test_what_another_compiler_has_left_is_used_where_there_is_none(home, monkeypatch):
    before = start()
    monkeypatch.delenv('CC')
    monkeypatch.setenv('PATH', str(home))
    assert start().story == before.story


def test_a_cache_that_cannot_be_written_is_known_before_anything_is_compiled(home, monkeypatch):
    (home / 'file').write_text('in the way')
    monkeypatch.setenv('XDG_CACHE_HOME', str(home / 'file'))
    story = start().story
    assert 'could not be compiled and kept' in story and str(home / 'file') in story and calls(home) == 0
    assert story.endswith('the variable XDG_CACHE_HOME may name a folder that can be written')


def test_without_a_home_and_on_a_full_disk(home, monkeypatch):
    monkeypatch.setattr(kernel_cache.Path, 'home', lambda: (_ for _ in ()).throw(RuntimeError('no home')))
    assert 'XDG_CACHE_HOME may name' in start().story and calls(home) == 0
    monkeypatch.undo()
    monkeypatch.setattr(native, '_files', lambda: [])
    monkeypatch.setenv('XDG_CACHE_HOME', str(home / '.cache'))
    monkeypatch.setenv('CC', str(home / 'quick-cc'))

    def full(path):
        raise OSError(errno.ENOSPC, 'No space left on device', str(path))

    monkeypatch.setattr(kernel_cache, 'atomic_write', full)
    assert 'the disk is full' in start().story and kept(home) == []


def test_an_extension_that_was_installed_wins(home, monkeypatch):
    start()
    file, = kept(home)
    installed = home / '_scan.so'
    shutil.copy(file, installed)
    monkeypatch.setattr(native, '_files', lambda: [installed])
    assert start().story == f"built when installing, '{installed}'" and calls(home) == 1
    foreign = home / '_scan_of_another_machine.so'
    foreign.write_bytes(b'of another machine')
    monkeypatch.setattr(native, '_files', lambda: [foreign])
    assert start().story == f"compiled on first use, '{file}'" and calls(home) == 1


def test_windows_stays_on_plain_pytorch(home, monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'win32')
    assert start() == (None, 'the C kernels are not made for Windows') and calls(home) == 0


def test_two_processes_at_once(home):
    """A bare checkout as users have it: no extension, a home without a cache."""
    shutil.copytree(ROOT / 'basicsr', home / 'basicsr', ignore=shutil.ignore_patterns('_scan*', '__pycache__'))
    code = ('from basicsr.ops.backend_table import BACKENDS; from basicsr.ops.self_check import check;'
            'print(check(BACKENDS["native"]).text)')
    environment = {**os.environ, 'PYTHONPATH': str(home)}
    both = [
        subprocess.Popen([sys.executable, '-c', code], cwd=home, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert all(process.communicate()[0].startswith('works') for process in both)
    found = kept(home)
    assert found and found == kernel_cache.find('*', '.so') and 1 <= calls(home) <= 2
    count = calls(home)
    done = run_python('-c', code, cwd=home, env=environment)
    assert done.stdout.startswith('works') and 'compiling' not in done.stderr and calls(home) == count


def test_the_flags_stand_once():
    assert not any(f"'{flag}'" in (ROOT / 'setup.py').read_text() for flag in (*flags.COMPILE, *flags.LINK))
    assert {file.name for file in compiled.FOLDER.glob('*.[ch]')} == {flags.SOURCE, *flags.HEADERS}


def test_the_cache_removes_what_was_damaged(home):
    file = kernel_cache.keep('key', '.cubin', b'code')
    other = kernel_cache.keep('key', '.cubin', b'other code')
    assert kernel_cache.keep('key', '.cubin', b'code') == file and kernel_cache.keep('keys', '.cubin', b'code') != file
    assert set(kernel_cache.find('key', '.cubin')) == {file, other} and kernel_cache.find('key', '.so') == []
    file.write_bytes(b'cod')
    assert kernel_cache.find('key', '.cubin') == [other] and not file.exists()
