"""Compiles the C kernels on first use, where `setup.py` has not: in a bare checkout, or installed without a C compiler.

What was compiled is kept in the cache, for each source, platform and compiler once.
"""
from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from basicsr.ops import kernel_cache
from basicsr.ops.native import flags
from basicsr.utils.errors import describe_os_error
from basicsr.utils.logger import get_root_logger

FOLDER = Path(__file__).parent
SHARED = ('-shared', '-fPIC')  # what `setup.py` gets from setuptools

Loaded = TypeVar('Loaded')


class NotCompiled(Exception):
    """There are no compiled kernels. The message says why, and what to do."""


def compiler() -> list[str]:
    """The command that compiles C: what the variable CC says, as for `setup.py`, else the first of cc, gcc and clang.

    Raises `NotCompiled` where there is none.
    """
    named = os.environ.get('CC', '').split()
    for program, *options in [named] if named else [['cc'], ['gcc'], ['clang']]:
        path = shutil.which(program)
        if path:
            return [path, *options]
    if named:
        raise NotCompiled(f"the C kernels are not compiled: the variable CC names '{named[0]}', which is not there")
    raise NotCompiled('the C kernels are not compiled: there is no C compiler; install gcc or clang, and the next start'
                      ' compiles them')


def compiler_here() -> str:
    """The command that compiles C, or 'none'."""
    try:
        return ' '.join(compiler())
    except NotCompiled:
        return 'none'


def compiled(load: Callable[[Path], Loaded]) -> tuple[Loaded, Path]:
    """What `load` makes of the kernels in the cache, compiled first where they are not there; and their file.

    Raises `NotCompiled`, whatever is wrong with the compiler or the cache.
    """
    if sys.platform == 'win32':
        raise NotCompiled('the C kernels are not made for Windows')
    try:
        key = _key()
        # without a compiler, what another one has left is as good: a cluster may have one on some of its machines alone
        for file in kernel_cache.find(f"{key}-{_trait() or '*'}", '.so'):
            try:
                return load(file), file
            except (OSError, AttributeError):
                continue
        return _compile(key, load)
    except OSError as error:
        raise NotCompiled(f'the C kernels could not be compiled and kept: {describe_os_error(error)}; the variable'
                          ' XDG_CACHE_HOME may name a folder that can be written') from error


def _key() -> str:
    sources = [(FOLDER / name).read_text(encoding='utf-8') for name in (flags.SOURCE, *flags.HEADERS)]
    machine = sysconfig.get_config_var('SOABI'), sysconfig.get_platform(), platform.machine()
    return f"scan-{kernel_cache.digest(repr((sources, flags.COMPILE, flags.LINK, machine)))}"


def _trait() -> str:
    """Of the compiler, also of its file: one that was replaced is another one. Empty where there is none."""
    try:
        command = compiler()
    except NotCompiled:
        return ''
    file = Path(command[0]).resolve()
    return kernel_cache.digest(repr((str(file), file.stat().st_size, file.stat().st_mtime_ns, command)))[:8]


def _compile(key: str, load: Callable[[Path], Loaded]) -> tuple[Loaded, Path]:
    command = compiler()
    kernel_cache.folder().mkdir(parents=True, exist_ok=True)
    # inside the cache: where nothing can be written, nobody waits for a compiler first
    with tempfile.TemporaryDirectory(prefix='.', dir=kernel_cache.folder()) as unfinished:
        get_root_logger().info(f"compiling the C kernels of the selective scan with '{command[0]}': once, in 10 to 30"
                               ' seconds')
        target = Path(unfinished, 'scan.so')
        _run([*command, *flags.COMPILE, *SHARED, *flags.LINK, str(FOLDER / flags.SOURCE), '-o', str(target)])
        if not target.is_file():
            raise NotCompiled(_failed(command, 'it ended without a word and without a result'))
        file = kernel_cache.keep(f'{key}-{_trait()}', '.so', target.read_bytes())
    try:
        return load(file), file
    except (OSError, AttributeError) as error:
        file.unlink(missing_ok=True)
        raise NotCompiled(_failed(command, f'what it made cannot be loaded, {error}')) from error


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace')
    except OSError as error:
        raise NotCompiled(_failed(command, str(error))) from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = next((line for line in lines if 'error' in line.lower()), lines[0] if lines else 'it says nothing')
        raise NotCompiled(_failed(command, f'exit status {done.returncode}, {said}'))


def _failed(command: list[str], why: str) -> str:
    cure = 'the variable CC may name a C compiler that works'
    return f"the C kernels could not be compiled with '{command[0]}': {why}; {cure}"
