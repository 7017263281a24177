"""Files: atomic writing, folders that must stay, natural listing, archiving of earlier runs."""
from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from natsort import natsorted, ns

from basicsr.utils.errors import UserError

_KEPT: dict[Path, tuple[int, int]] = {}  # folders that must stay, and which they are: device and number

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.jp2')


@contextmanager
def atomic_write(path: str | Path, mode: str = 'wb') -> Iterator[IO]:
    """Open a temporary file beside `path` that takes its name only once everything is on disk.

    A full disk, a kill or an exception leaves an earlier file of that name untouched. Raises `OSError`, and `UserError`
    as `check_kept` does.
    """
    path = Path(path)
    check_kept(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = str(path.with_name(f'.{path.name[:32]}.{secrets.token_hex(6)}.tmp'))
    # not by `tempfile`, whose files are private, and the permissions of a new file cannot be asked for without a moment in
    # which other threads would make files that everybody may write
    handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, 'O_BINARY', 0), 0o666)
    try:
        binary = 'b' in mode
        with os.fdopen(handle, mode, encoding=None if binary else 'utf-8', newline=None if binary else '') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        if error.filename is None or error.filename == name:
            error.filename = str(path)
        raise
    finally:
        if os.path.exists(name):
            os.unlink(name)


@contextmanager
def kept(folder: str | Path) -> Iterator[None]:
    """Make a folder where it is missing, and write nothing below it once it is no longer the one that it is now.

    Whoever writes makes the folders that a path needs; a run that somebody removes would go on in a new folder that
    holds the rest of it.
    """
    path = Path(os.path.abspath(folder))
    path.mkdir(parents=True, exist_ok=True)
    _KEPT[path] = _identity(path)
    try:
        yield
    finally:
        _KEPT.pop(path, None)


def check_kept(path: str | Path) -> None:
    """Before a file is written. Raises `UserError` where a folder above it was to be kept, and was not."""
    for folder in Path(os.path.abspath(path)).parents:
        if folder in _KEPT and _identity(folder) != _KEPT[folder]:
            raise UserError(
                f"'{folder}' was removed, renamed or replaced while it was written to; what comes now has no"
                ' place, so this ends here')


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def list_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """Image files in `folder` in natural order (2.png before 10.png), also those of its subfolders if `recursive`.

    Hidden files and folders are skipped.
    """
    root = Path(folder)
    files = (p for p in (root.rglob('*') if recursive else root.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES)
    inside = (p.relative_to(root) for p in files if p.is_file())
    # sorted first: names that are naturally equal (1.png, 01.png, A.png, a.png) must not keep the file system's order
    visible = sorted(p for p in inside if not any(part.startswith('.') for part in p.parts))
    return [root / p for p in natsorted(visible, key=lambda p: p.parts, alg=ns.IGNORECASE)]


def scandir(dir_path: str, suffix: str | tuple[str, ...] | None = None, recursive: bool = False,
            full_path: bool = False) -> Iterator[str]:
    """Paths of the visible files below `dir_path` in natural order, relative to it unless `full_path` (BasicSR)."""
    root = Path(dir_path)
    paths = root.rglob('*') if recursive else root.iterdir()
    for path in natsorted(sorted(paths), key=lambda p: str(p.relative_to(root)), alg=ns.PATH):
        if path.is_file() and not path.name.startswith('.') and (suffix is None or path.name.endswith(suffix)):
            yield str(path if full_path else path.relative_to(root))


def archive_existing(path: str | Path) -> Path | None:
    """Rename an existing folder to `<name>_archived_<time>`, as BasicSR does. Returns the new name, or None."""
    path = Path(path)
    if not path.exists():
        return None
    stamp = time.strftime('%Y%m%d_%H%M%S')
    target = path.with_name(f'{path.name}_archived_{stamp}')
    count = 1
    while target.exists():
        count += 1
        target = path.with_name(f'{path.name}_archived_{stamp}_{count}')
    path.rename(target)
    return target
