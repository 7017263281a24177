"""The one exception that means "the user can mend this": entry points print it as a sentence and exit with 2."""
from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any


class UserError(Exception):
    """A mistake in what the user gave us (option, file, folder, checkpoint). The message is shown as it is.

    Attributes:
        block: the option block that is wrong as a whole, for those who know in which file and line it stands.
    """

    def __init__(self, *args: object, block: Any = None):
        super().__init__(*args)
        self.block = block


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean X?' when a known word is close to `word`, else ''."""
    by_lower = {k.lower(): k for k in known}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" Did you mean '{by_lower[match[0]]}'?" if match else ''


def counted(count: int, noun: str) -> str:
    """'1 pair', '2 pairs'."""
    return f'{count} {noun}' if count == 1 else f'{count} {noun}s'


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
        errno.EFBIG: 'the file would exceed the allowed file size; what was already saved is kept',
    }
    return f'cannot use the file{where}: {reasons.get(error.errno or 0) or error.strerror or error}'


def run_main(main: Callable[[], int | None]) -> int:
    """Run an entry point: `UserError` and file errors become one sentence on stderr and exit code 2."""
    try:
        return main() or 0
    except UserError as error:
        sys.stderr.write(f'error: {error}\n')
    except BrokenPipeError:  # whoever read the output has read enough: `basicsr list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still in the buffer goes nowhere
        return 0
    except OSError as error:
        if error.errno is None:  # not from the operating system: a defect of ours, show the traceback
            raise
        sys.stderr.write(f'error: {describe_os_error(error)}\n')
    except KeyboardInterrupt:
        sys.stderr.write('stopped.\n')
        return 130
    return 2
