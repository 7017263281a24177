"""Files carried in parts below a size limit: one archive cut into pieces, and a list that proves that they are whole.

    data_000.part  data_001.part  ...  data.parts.json

The same files give the same parts, so that any of them can be cut again. Only the standard library: this also runs where
nothing is installed yet.
"""
from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from basicsr.utils.errors import UserError
from basicsr.utils.names import checked

_LIST = '.parts.json'


class _Cutter(io.RawIOBase):
    """What is written goes into files of at most `size` bytes, one after the other; those not in `wanted` are only named."""

    def __init__(self, folder: Path, label: str, size: int, wanted: Container[int] | None):
        self.folder, self.label, self.size, self.wanted = folder, label, size, wanted
        self.parts: list[dict] = []
        self.file, self.room = None, 0

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        rest = memoryview(data).cast('B')
        length = len(rest)
        while rest:
            if not self.room:
                self._next()
            chunk, rest = rest[:self.room], rest[self.room:]
            if self.file:
                self.file.write(chunk)
            self.digest.update(chunk)
            self.room -= len(chunk)
            self.parts[-1]['bytes'] += len(chunk)
        return length

    def _next(self) -> None:
        self._end()
        number = len(self.parts)
        self.parts.append({'file': f'{self.label}_{number:03d}.part', 'bytes': 0})
        write = self.wanted is None or number in self.wanted
        self.file = (self.folder / self.parts[-1]['file']).open('wb') if write else None
        self.room, self.digest = self.size, hashlib.sha256()

    def _end(self) -> None:
        if self.parts:
            self.parts[-1]['sha256'] = self.digest.hexdigest()
        if self.file:
            self.file.close()
            self.file = None

    def close(self) -> None:
        if not self.closed:
            self._end()
        super().close()


class _Joiner(io.RawIOBase):
    """The content of files, one after the other."""

    def __init__(self, files: Iterable[Path]):
        self.files, self.file = iter(files), None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while True:
            if self.file is None:
                path = next(self.files, None)
                if path is None:
                    return 0
                self.file = path.open('rb')
            count = self.file.readinto(buffer)
            if count:
                return count
            self.file.close()
            self.file = None


def cut(files: Mapping[str, Path], folder: Path, label: str, size: int,
        wanted: Container[int] | None = None) -> list[str]:
    """Pack files into parts, with their list.

    Args:
        files: path in the archive, with '/', to file.
        folder: where they go; the parts that are there, of whatever packing, are removed.
        label: begins the parts' names.
        size: most bytes of a part.
        wanted: numbers of the parts to write, default all; the list names all.

    Returns:
        The names of all parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob('*.part'), *folder.glob(f'*{_LIST}')):
        old.unlink()
    cutter = _Cutter(folder, label, size, wanted)
    with io.BufferedWriter(cutter, 1 << 20) as stream, \
            tarfile.open(fileobj=stream, mode='w|', dereference=True) as archive:
        for name, path in files.items():
            archive.add(path, name, recursive=False, filter=_without_owner_and_time)
    text = json.dumps({'files': len(files), 'parts': cutter.parts}, indent=1)
    (folder / f'{label}{_LIST}').write_text(text, encoding='utf-8')
    return [part['file'] for part in cutter.parts]


def collect(sources: Iterable[Path], folder: Path) -> dict[str, list[str]]:
    """Copy lists and parts from folders into `folder`. Returns, for each list there, the parts that are still missing.

    A list that replaces another one of its label removes the parts that belong to the old one. Raises `UserError` for
    damaged parts, and when there is nothing to copy.
    """
    sources, found = list(sources), []
    for source in sources:
        if not source.is_dir():
            raise UserError(f"'{source}' is not a folder")
        found += sorted(source.glob(f'*{_LIST}')) + sorted(source.glob('*.part'))
    if not any(path.suffix == '.part' for path in found):
        raise UserError(f"there are no parts (*.part) in {', '.join(repr(str(s)) for s in sources)}")
    folder.mkdir(parents=True, exist_ok=True)
    for path in found:
        target = folder / path.name
        if path.name.endswith(_LIST) and target.is_file() and target.read_bytes() != path.read_bytes():
            for old in _parts_of(folder, path.name.removesuffix(_LIST)):
                old.unlink()
        if path.resolve() != target.resolve():
            shutil.copyfile(path, target)
    return waiting(folder, check=True)


def waiting(folder: Path, check: bool = False) -> dict[str, list[str]]:
    """For each list in `folder` the parts that are missing; with `check`, damaged ones are removed and a `UserError`."""
    return {listing.name.removesuffix(_LIST): _missing(listing, check) for listing in sorted(folder.glob(f'*{_LIST}'))}


def join(folder: Path, label: str, target: Path) -> list[str]:
    """Unpack the parts of `label` below `target`, over files of the same names. Returns the names; see `remove`."""
    target.mkdir(parents=True, exist_ok=True)
    names = []
    with _archive(folder, label) as archive:
        for member in archive:
            archive.extract(member, target, filter='data')  # nothing outside of `target`
            names.append(member.name)
    return names


def held(folder: Path, label: str) -> list[str]:
    """The names of the files in the parts of `label`."""
    with _archive(folder, label) as archive:
        return [member.name for member in archive]


@contextmanager
def _archive(folder: Path, label: str) -> Iterator[tarfile.TarFile]:
    files = [folder / part['file'] for part in _read_list(folder / f'{label}{_LIST}')]
    with io.BufferedReader(_Joiner(files), 1 << 20) as stream, tarfile.open(fileobj=stream, mode='r|') as archive:
        yield archive


def remove(folder: Path, label: str) -> None:
    """Delete the parts of `label` and their list."""
    for path in (*_parts_of(folder, label), folder / f'{label}{_LIST}'):
        path.unlink()


def _without_owner_and_time(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ''
    member.mode = 0o644
    return member


def _read_list(listing: Path) -> list[dict]:
    """The parts that a list names, each `{file, bytes, sha256}`. Raises `UserError` for what is no such list."""
    try:
        parts = json.loads(listing.read_text(encoding='utf-8'))['parts']
        for part in parts:
            if not isinstance(part['sha256'], str) or not part['file'].endswith('.part'):
                raise ValueError
            checked(part['file'], f"'{listing}' names a part that is no file beside it")
        return list(parts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"'{listing}' is damaged, or no list of parts; carry it again") from error


def _missing(listing: Path, check: bool) -> list[str]:
    missing = []
    for part in _read_list(listing):
        path = listing.parent / part['file']
        if not path.is_file():
            missing.append(part['file'])
        elif check and _sha256(path) != part['sha256']:
            path.unlink()
            raise UserError(f"'{part['file']}' is damaged or belongs to another packing; carry it again")
    return missing


def _parts_of(folder: Path, label: str) -> list[Path]:
    return [p for p in folder.glob('*.part') if p.name.rpartition('_')[0] == label]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
