"""Files carried in parts below a size limit: one archive cut into pieces, and a list that proves that they are whole.

    data_000.part  data_001.part  ...  data.parts.json

The same files give the same parts, so that any of them can be cut again. Only the standard library: this also runs where
nothing is installed yet.
"""
from __future__ import annotations

import errno
import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pieces.streams import Cutter, Joiner

from basicsr.utils.errors import UserError
from basicsr.utils.names import below

_LIST = '.parts.json'
# failures of names that no files had together: too long, or both a file and a folder
_NO_NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EINVAL)


class _Listed(NamedTuple):
    """What a list says: how many files there are, and name and SHA-256 of each part."""
    files: int
    parts: dict[str, str]


def cut(files: Mapping[str, Path], folder: Path, label: str, size: int,
        wanted: Container[int] | None = None) -> list[str]:
    """Pack files into parts, with their list.

    Args:
        files: path in the archive, with '/', to file.
        folder: where they go. Parts that a list of the same label names are removed first; other files stay.
        label: begins the parts' names.
        size: most bytes of a part.
        wanted: numbers of the parts to write, default all; the list names all.

    Returns:
        The names of all parts.

    Raises:
        UserError: a file of such a name is there that is not known to be a part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in _earlier(folder, label):
        old.unlink(missing_ok=True)
    cutter = Cutter(folder, label, size, wanted)
    try:
        with io.BufferedWriter(cutter, 1 << 20) as stream, \
                tarfile.open(fileobj=stream, mode='w|', dereference=True) as archive:
            for name, path in files.items():
                archive.add(path, name, recursive=False, filter=_without_owner_and_time)
        text = json.dumps({'files': len(files), 'parts': cutter.parts}, indent=1)
        (folder / f'{label}{_LIST}').write_text(text, encoding='utf-8')
    except BaseException:  # no list would ever name them
        for part in cutter.parts:
            (folder / part['file']).unlink(missing_ok=True)
        raise
    return [part['file'] for part in cutter.parts]


def _earlier(folder: Path, label: str) -> list[Path]:
    """The parts of this label in a folder and their list. Raises `UserError` for files of such names that are none."""
    listing = folder / f'{label}{_LIST}'
    own: list[Path] = []
    if listing.exists():
        try:
            own = [*(folder / name for name in _read_list(listing).parts), listing]
        except UserError:
            raise UserError(f"'{listing}' is no list of parts; move it away, or choose another folder") from None
    name = re.compile(rf'{re.escape(label)}_\d{{3,}}\.part')
    others = sorted(path for path in folder.iterdir() if name.fullmatch(path.name) and path not in own)
    if others:
        raise UserError(f"'{others[0]}' is named by no list of parts; move it away, or choose another folder")
    return own


def collect(sources: Iterable[Path], folder: Path) -> dict[str, list[str]]:
    """Copy lists and parts from folders into `folder`. Returns, for each list there, the parts that are still missing.

    A list that replaces another one of its label removes the parts that belong to the old one. Raises `UserError` where
    there is nothing to copy; for a list that is none, before anything is copied; and for what is damaged in `folder`,
    which is removed there, so that it can be carried again.
    """
    sources, lists, parts = list(sources), list[Path](), list[Path]()
    for source in sources:
        if not source.is_dir():
            raise UserError(f"'{source}' is not a folder")
        lists += sorted(source.glob(f'*{_LIST}'))
        parts += sorted(path for path in source.glob('*.part') if not path.is_dir())
    if not parts:
        raise UserError(f"there are no parts (*.part) in {', '.join(repr(str(s)) for s in sources)}")
    for path in lists:
        _read_list(path)
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*lists, *parts):
        target = folder / path.name
        if path.name.endswith(_LIST) and target.is_file() and target.read_bytes() != path.read_bytes():
            for old in _parts_of(folder, path.name.removesuffix(_LIST)):
                old.unlink()
        if path.resolve() != target.resolve():
            shutil.copyfile(path, target)
    for listing in sorted(folder.glob(f'*{_LIST}')):
        try:
            _read_list(listing)
        except UserError:
            listing.unlink()
            raise
    return waiting(folder, check=True)


def waiting(folder: Path, check: bool = False) -> dict[str, list[str]]:
    """For each list in `folder` the parts that are missing; with `check`, damaged ones are removed and a `UserError`."""
    return {listing.name.removesuffix(_LIST): _missing(listing, check) for listing in sorted(folder.glob(f'*{_LIST}'))}


def join(folder: Path, label: str, target: Path) -> list[str]:
    """Unpack the parts of `label` below `target`, over files of the same names. Returns the names; see `remove`.

    Raises `UserError` where they hold anything but the files that were packed; some of these may be there by then.
    """
    listing = folder / f'{label}{_LIST}'
    listed = _read_list(listing)
    files, what = [folder / name for name in listed.parts], f"the parts of '{listing}'"
    target.mkdir(parents=True, exist_ok=True)
    names: dict[str, None] = {}
    try:
        with io.BufferedReader(Joiner(files), 1 << 20) as stream, tarfile.open(fileobj=stream, mode='r|') as archive:
            for member in archive:
                below(target, member.name, what=what)
                if not member.isreg():
                    raise UserError(f"{what} hold '{member.name}', which is no file; make them again")
                archive.extract(member, target, filter='data')
                names[member.name] = None
    except (tarfile.TarError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_NAMES:  # such as a full disk
            raise
        raise UserError(f'{what} are no whole archive ({error}); make them again') from error
    if len(names) != listed.files:
        raise UserError(f'{what} hold {len(names)} files of {listed.files}; make them again')
    return list(names)


def remove(folder: Path, label: str) -> None:
    """Delete the parts of `label` and their list."""
    for path in (*_parts_of(folder, label), folder / f'{label}{_LIST}'):
        path.unlink()


def _without_owner_and_time(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ''
    member.mode = 0o644
    return member


def _read_list(listing: Path) -> _Listed:
    """Raises `UserError` for what is no list of parts: of one label, numbered from 0, beside it."""
    label = listing.name.removesuffix(_LIST)
    try:
        content = json.loads(listing.read_text(encoding='utf-8'))
        parts = {part['file']: part['sha256'] for part in content['parts']}
        right = parts and list(parts) == [f'{label}_{number:03d}.part' for number in range(len(content['parts']))]
        if not right or not isinstance(content['files'], int) or not all(isinstance(s, str) for s in parts.values()):
            raise ValueError
        return _Listed(content['files'], parts)
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # the last for brackets in brackets
        raise UserError(f"'{listing}' is damaged, or no list of parts; carry it again") from error


def _missing(listing: Path, check: bool) -> list[str]:
    missing = []
    for name, digest in _read_list(listing).parts.items():
        path = listing.parent / name
        if not path.is_file():
            missing.append(name)
        elif check and _sha256(path) != digest:
            path.unlink()
            raise UserError(f"'{name}' is damaged or belongs to another packing; carry it again")
    return missing


def _parts_of(folder: Path, label: str) -> list[Path]:
    return [p for p in folder.glob('*.part') if p.name.rpartition('_')[0] == label]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
