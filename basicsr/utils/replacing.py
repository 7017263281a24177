"""What a file that is written takes the place of: where links lead, and who may read it."""
from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from basicsr.utils.errors import UserError

_NEW = 0o666  # but for what the process takes away from all files that it makes


def replaced(path: Path) -> tuple[Path, int | None]:
    """The file that a path leads to through links, be it there or not, and its permissions, None of what is not there.

    Raises `UserError` for a device or a pipe, whose place a file must not take.
    """
    place = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return place, None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"'{path}' is a device or a pipe, which no file can take the place of")
    return place, stat.S_IMODE(mode) & 0o777


def create(name: str, mode: int | None) -> int:
    """The handle of a new file, which at no moment more people may read than those of `mode`."""
    # not by `tempfile`, whose files are private, and the permissions of a new file cannot be asked for without a moment in
    # which other threads would make files that everybody may write
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, 'O_BINARY', 0)
    return os.open(name, flags, _NEW if mode is None else mode)


def give(name: str, mode: int | None) -> None:
    """Give a file permissions, where there are some to give and its file system has such."""
    if mode is not None:
        with suppress(OSError):
            os.chmod(name, mode)
