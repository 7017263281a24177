"""The one exception that means "the user can mend this": entry points print it as a sentence and exit with 2."""
from __future__ import annotations

import difflib
import errno
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from basicsr.utils.threads import wait_asleep

_SHOWN = 5  # names of a long list
_STDOUT = 'standard output'


class UserError(Exception):
    """A mistake in what the user gave us (option, file, folder, checkpoint). The message is shown as it is.

    Attributes:
        block: the option block that is wrong as a whole, for those who know in which file and line it stands.
        details: everything that the message may cut short, a line each, for `check-data`.
    """

    def __init__(self, *args: object, block: Any = None, details: Sequence[str] = ()):
        super().__init__(*args)
        self.block, self.details = block, tuple(details)


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean X?' when a known word is close to `word`, else ''."""
    by_lower = {k.lower(): k for k in known}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" Did you mean '{by_lower[match[0]]}'?" if match else ''


def counted(count: int, noun: str) -> str:
    """'1 pair', '2 pairs'."""
    return f'{count} {noun}' if count == 1 else f'{count} {noun}s'


def some(names: Sequence[object], limit: int = _SHOWN, sep: str = ', ') -> str:
    """The first of a list that may be long: 'a, b, c, d, e and 3995 more'."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return sep.join(map(str, names[:limit])) + more


def in_a_file(lines: Sequence[str], file: str | Path | None = None) -> str:
    """Write a list that is too long for a message, a line each, and return where it is: "all of them are in 'FILE'".

    `file`: default one in the system's temporary folder. Raises `OSError`.
    """
    if file is None:
        handle, file = tempfile.mkstemp(prefix='basicsr_', suffix='.txt')
        os.close(handle)
    from basicsr.utils.files import atomic_write  # which imports this module
    with atomic_write(file, 'w') as out:
        out.writelines(f'{line}\n' for line in lines)
    return f"all of them are in '{file}'"


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Give a failure inside the name of its file: the operating system tells it on opening, but not on reading."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def describe_os_error(error: OSError) -> str:
    """One sentence for a failed file operation, naming the file."""
    where = f" '{error.filename}'" if error.filename else ''
    reasons = {
        errno.ENOENT: 'no such file or directory',
        errno.EACCES: 'permission denied',
        errno.EPERM: 'operation not permitted',
        errno.EROFS: 'the file system is read-only',
        errno.ENOSPC: 'the disk is full; what was already saved is kept',
        errno.EDQUOT: 'the disk quota is used up; what was already saved is kept',
        errno.EIO: 'input/output error; the disk, or the connection to it, may be failing',
        errno.ESTALE: 'the network file system has lost it',
        errno.EISDIR: 'it is a folder',
        errno.ENAMETOOLONG: 'the name is too long for the file system',
        errno.EFBIG: 'the file would exceed the allowed file size; what was already saved is kept',
    }
    return f'cannot use the file{where}: {reasons.get(error.errno or 0) or error.strerror or error}'


def write_anything() -> None:
    """Let stdout and stderr escape what their encoding lacks: 'cp1252' of a Windows console, ASCII, names in no encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where somebody has put another in its place, or there is none
            stream.reconfigure(errors='backslashreplace')


def run_main(main: Callable[[], int | None]) -> int:
    """Run an entry point: `UserError` and file errors become one sentence on stderr and exit code 2."""
    wait_asleep()
    write_anything()
    code = 0
    try:
        code = main() or 0
        _flush()
        return code
    except UserError as error:
        sys.stderr.write(f'error: {error}{_rest(error)}\n')
    except BrokenPipeError:  # whoever read the output has read enough: `basicsr list | head -1`
        return code
    except OSError as error:
        if error.errno is None:  # not from the operating system: a defect of ours, show the traceback
            raise
        if error.filename is None and _stdout_fails('\n'):  # unbuffered, it has forgotten what it did not take
            error.filename = _STDOUT
        sys.stderr.write(f'error: {describe_os_error(error)}\n')
    except KeyboardInterrupt:
        sys.stderr.write('stopped.\n')
        return 130
    finally:
        if _stdout_fails():  # Python would show a traceback when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still in the buffer goes nowhere
    return 2


def _rest(error: UserError) -> str:
    """Where everything is that a message cuts short."""
    if len(error.details) <= _SHOWN:
        return ''
    try:
        return f'; {in_a_file(error.details)}'
    except OSError:  # the message stands without it
        return ''


def run_program(main: Callable[[list[str]], None], argv: list[str] | None) -> None:
    """`main(argv)`; without `argv` the caller is a program, whose arguments `main` gets, and a mistake ends it (`run_main`)."""
    if argv is not None:
        return main(argv)
    code = run_main(lambda: main(sys.argv[1:]))
    if code:
        sys.exit(code)


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _stdout_fails(more: str = '') -> bool:
    """Whether what was printed, and `more`, cannot be written: a pipe that is closed, a disk that is full."""
    try:
        if sys.stdout is not None:
            sys.stdout.write(more)
        _flush()
    except OSError:
        return True
    return False
