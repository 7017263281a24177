"""Files: atomic writing, text and JSON that anything can be written as, folders that must stay, natural listing."""
from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from natsort import natsorted, ns

from basicsr.utils.errors import UserError, counted, naming, some
from basicsr.utils.names import printable, spellings
from basicsr.utils.replacing import create, give, replaced

_KEPT: dict[Path, tuple[int, int] | None] = {}  # folders that must stay, and which they are: device and number

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.jp2')


@contextmanager
def atomic_write(path: str | Path, mode: str = 'wb') -> Iterator[IO]:
    """Open a temporary file beside `path` that takes its name only once everything is on disk.

    A full disk, a kill or an exception leaves an earlier file of that name untouched, whose permissions the new one gets;
    links stay, and lead to the new one. Text is UTF-8; what that cannot hold, such as names in another encoding, becomes
    backslash escapes. Raises `OSError`, and `UserError` as `check_kept` and `replaced` do.
    """
    check_kept(path)
    path, before = replaced(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    name = str(path.with_name(f'.{path.name[:32]}.{secrets.token_hex(6)}.tmp'))
    handle = create(name, before)
    try:
        binary = 'b' in mode
        text: dict[str, Any] = {} if binary else {'encoding': 'utf-8', 'errors': 'backslashreplace', 'newline': ''}
        with os.fdopen(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        give(name, before)
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
    _KEPT[path] = identity(path)
    try:
        yield
    finally:
        _KEPT.pop(path, None)


def check_kept(path: str | Path) -> None:
    """Before a file is written. Raises `UserError` where a folder above it was to be kept, and was not."""
    for folder in Path(os.path.abspath(path)).parents:
        if folder in _KEPT and identity(folder) != _KEPT[folder]:
            raise UserError(
                f"'{folder}' was removed, renamed or replaced while it was written to; what comes now has no"
                ' place, so this ends here')


def identity(path: str | Path) -> tuple[int, int] | None:
    """Device and number of what a path leads to, the same by all its paths; None where it leads nowhere."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def cache_folder(kind: str) -> Path:
    """Where what can be made or fetched again is kept: `$XDG_CACHE_HOME/basicsr/<kind>`, else below `~/.cache`.

    Raises `OSError` where there is no home.
    """
    try:
        return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'basicsr', kind)
    except RuntimeError as error:
        raise OSError(errno.ENOENT, 'there is no home folder') from error


def sha256_of(path: str | Path) -> str:
    """Of a file that may be larger than the memory. Raises `OSError` that names it."""
    digest = hashlib.sha256()
    with naming(path), Path(path).open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_bytes(path: str | Path) -> bytes:
    """The content of a file. Raises `OSError` that names it, also for what fails in the middle."""
    with naming(path):
        return Path(path).read_bytes()


def read_text(path: str | Path) -> str:
    """A text in UTF-8, without the mark that Windows editors put in front; bytes of another encoding stay what they are
    (as in names of files). Raises `OSError` as `read_bytes`."""
    return read_bytes(path).decode('utf-8-sig', 'surrogateescape')


def write_json(file: str | Path, content: Any, indent: int = 2) -> None:
    """Write JSON that every reader takes, atomically: null for NaN and infinity, escapes for what is no Unicode."""
    with atomic_write(file, 'w') as out:
        json.dump(_plain(content), out, indent=indent, allow_nan=False)


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {_plain(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, str):
        return printable(content)
    return None if isinstance(content, float) and not math.isfinite(content) else content


def as_stored(path: str | Path) -> str:
    """A path with each part in the Unicode form in which it is there; as it is where it is there, or nowhere.

    Arguments of commands come through here. Raises `UserError` for an empty one, which `Path` takes as the current folder.
    """
    text = str(path)
    if not text:
        raise UserError("an empty word ('') names no file or folder; is a variable not set?")
    if text.isascii() or os.path.lexists(text):
        return text
    found = Path()
    for part in Path(text).parts:
        forms = (found / form for form in spellings(part))
        found = next((form for form in forms if form.exists()), Path())
        if found == Path():
            return text
    return str(found)


class Scan(NamedTuple):
    """What a folder holds; paths within it.

    Attributes:
        images: in natural order (2.png before 10.png).
        others: files that are no images of a known type.
        folders: subfolders that were not looked into, as they were not asked for or lead back to where they are.
        broken: links to what is not there, and other things that are no files.
        hidden: images whose name begins with a dot.
    """
    images: list[Path]
    others: list[Path]
    folders: list[Path]
    broken: list[Path]
    hidden: list[Path]

    def passed_over(self) -> str:
        """All but the images, in words: '12 .jfif, readme.md, 2 subfolders (a, b)'; '' where there is nothing else."""
        kinds: dict[str, list[Path]] = {}
        for path in sorted(self.others):
            kinds.setdefault(path.suffix.lower(), []).append(path)
        parts = [
            f"{len(paths)} {suffix or 'without suffix'}" if len(paths) > 1 else str(paths[0])
            for suffix, paths in sorted(kinds.items(), key=lambda item: -len(item[1]))
        ]
        for paths, what in ((self.folders, 'subfolder'), (self.broken, 'broken link'), (self.hidden, 'hidden image')):
            parts += [f'{counted(len(paths), what)} ({some(sorted(paths))})'] if paths else []
        return ', '.join(parts)


def scan_images(folder: str | Path, recursive: bool = False, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> Scan:
    """Look through `folder`, and if `recursive` through its subfolders, linked ones as well, for files of these suffixes.

    Of what is hidden only images are worth a word, and no folders. Raises `OSError`.
    """
    found = Scan([], [], [], [], [])
    _scan(Path(folder), Path(), recursive, suffixes, (os.path.realpath(folder), ), found)
    # sorted first: names that are naturally equal (1.png, 01.png, A.png, a.png) must not keep the file system's order
    return found._replace(images=natsorted(sorted(found.images), key=lambda p: p.parts, alg=ns.IGNORECASE))


def _scan(root: Path, inside: Path, recursive: bool, suffixes: Sequence[str], above: tuple[str, ...],
          found: Scan) -> None:
    with os.scandir(root / inside) as entries:
        for entry in entries:
            path = inside / entry.name
            if entry.name.startswith('.'):
                if path.suffix.lower() in suffixes and entry.is_file():
                    found.hidden.append(path)
                continue
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if recursive and real not in above:
                    _scan(root, path, recursive, suffixes, (*above, real), found)
                else:
                    found.folders.append(path)
            elif not entry.is_file():
                found.broken.append(path)
            elif path.suffix.lower() in suffixes:
                found.images.append(path)
            else:
                found.others.append(path)


def list_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """The images of `scan_images` as paths."""
    return [Path(folder) / path for path in scan_images(folder, recursive).images]


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
