"""A run's folder belongs to one process at a time. The operating system ends the claim of a process that is killed."""
from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from basicsr.utils.errors import UserError
from basicsr.utils.files import archive_existing
from basicsr.utils.logger import get_root_logger

_LOCK, _OWNER = '.lock', '.owner.json'
_OTHERWISE = 'give this run another name=, or wait for its end'


@contextmanager
def owned(folder: Path, archive: bool, otherwise: str = _OTHERWISE) -> Iterator[Path | None]:
    """Own a folder, made where it is missing; yields what an earlier one of its name is called now, or None.

    Args:
        archive: rename an earlier folder of the name first, unless another process owns it.
        otherwise: what to do where another process owns it.

    Raises:
        UserError: names the process that owns the folder.
    """
    archived = archived_unless_owned(folder) if archive else None
    lock = _claim(folder, otherwise) if folder.exists() else _make(folder, otherwise)
    try:
        yield archived
    finally:
        for name in (_OWNER, _LOCK):
            with contextlib.suppress(OSError):  # the folder may have been taken away, which is told elsewhere
                (folder / name).unlink()
        lock.release()


def archived_unless_owned(folder: str | Path) -> Path | None:
    """`archive_existing`. Raises `UserError` where another process owns the folder, which stays as it is."""
    folder = Path(folder)
    if not folder.exists():
        return None
    if not (folder / _LOCK).exists():
        return archive_existing(folder)
    lock = _claim(folder)
    try:
        archived = archive_existing(folder)
        if archived:
            for name in (_OWNER, _LOCK):
                (archived / name).unlink(missing_ok=True)
        return archived
    finally:
        lock.release()


def check_free(*folders: Path, otherwise: str = _OTHERWISE) -> None:
    """Raise `UserError` where another process owns one of the folders. `otherwise`: see `owned`."""
    for folder in folders:
        if (folder / _LOCK).exists():
            _claim(folder, otherwise).release()


def check_makeable(*folders: Path) -> None:
    """Raise `UserError` where a folder cannot be made, or renamed, since the place for it is none that may be written to."""
    for folder in folders:
        place = next(above for above in folder.absolute().parents if os.path.lexists(above))
        if not place.is_dir():
            raise UserError(f"'{folder}' cannot be made: '{place}' is not a folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise UserError(f"'{folder}' cannot be made: '{place}' may not be written to")


def _make(folder: Path, otherwise: str) -> FileLock:
    """A new folder, which appears with its owner: between making and claiming, another process could claim it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f'.{folder.name[:32]}.{secrets.token_hex(4)}.tmp')
    new.mkdir()
    lock = _claim(new, otherwise)
    try:
        new.rename(folder)
    except OSError:  # it is there by now
        lock.release()
        shutil.rmtree(new, ignore_errors=True)
        return _claim(folder, otherwise)
    return lock


def _claim(folder: Path, otherwise: str = _OTHERWISE) -> FileLock:
    lock = FileLock(str(folder / _LOCK), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"'{folder}' is in use by {_owner(folder)}; {otherwise}") from None
    except NotImplementedError:
        get_root_logger().warning(
            f"the file system of '{folder}' knows no locks: a second start of the same name is not"
            ' noticed')
    said = {'host': socket.gethostname(), 'process': os.getpid(), 'started': time.strftime('%Y-%m-%d %H:%M:%S')}
    (folder / _OWNER).write_text(json.dumps(said), encoding='utf-8')
    return lock


def _owner(folder: Path) -> str:
    try:
        said = json.loads((folder / _OWNER).read_text(encoding='utf-8'))
        return f"process {said['process']} on {said['host']}, since {said['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return 'another process'
