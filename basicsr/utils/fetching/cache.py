"""Fetched weights, and what is known of each: in `$BASICSR_WEIGHTS`, else in `weights` of the cache folder.

Every address, and every name of a file that was got by hand, has a folder with `source.json`: name of the file, bytes,
SHA-256, on the hub its commit. Files of the hub are in the hub's own cache. A file takes its name when it is whole and what it
should be; from then on it is compared with its record.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from basicsr.utils.errors import UserError
from basicsr.utils.fetching.addresses import DriveFile, HubFile, Source
from basicsr.utils.fetching.drive import download_from_drive
from basicsr.utils.fetching.hub import fetch_from_hub, in_cache
from basicsr.utils.fetching.web import discard, download
from basicsr.utils.files import cache_folder, sha256_of, write_json
from basicsr.utils.logger import get_root_logger

VARIABLE = 'BASICSR_WEIGHTS'
_RECORD, _PART = 'source.json', 'unfinished'


@dataclass(frozen=True)
class Fetched:
    """A file that is here. first: it was not before this call. licence: of the hub's card, '' where nothing says it."""
    path: Path
    sha256: str
    first: bool
    licence: str = ''


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it comes. sha256: whole, or its first and last digits around '…'."""
    bytes: int | None = None
    sha256: str | None = None

    def check(self, path: Path, digest: str, what: str) -> None:
        """Raise `UserError` for a file that is another one."""
        size = path.stat().st_size
        if self.bytes is not None and size != self.bytes:
            raise UserError(f"{what}: the file has {size:,d} bytes, and what was published has {self.bytes:,d}")
        if self.sha256 and not fits(digest, self.sha256):
            raise UserError(f'{what}: the file is not what was published: its SHA-256 is {digest}, not {self.sha256}')


def folder() -> Path:
    """Raises `OSError` where there is no home."""
    return Path(os.environ[VARIABLE]).expanduser() if os.environ.get(VARIABLE) else cache_folder('weights')


def fits(digest: str, known: str) -> bool:
    """Whether a SHA-256 is the known one, or has its first and last digits."""
    start, _, end = known.partition('…')
    return digest == known or (bool(end) and digest.startswith(start) and digest.endswith(end))


def find_fetched(source: Source) -> Path | None:
    """The file where it was fetched; it is not looked into."""
    home, record = _home(source), _read(_home(source))
    if record is None:
        return None
    if isinstance(source, HubFile):
        return in_cache(source, record['revision'], record['file'])
    return home / record['file'] if (home / record['file']).is_file() else None


def fetch(source: Source, expected: Expected | None = None, again: bool = False) -> Fetched:
    """The file at an address: from the cache, or got now. Processes that want the same one wait for each other.

    Args:
        again: get it anew, whatever was recorded of it.

    Raises:
        UserError: what cannot be fetched, is not what was published, or is another file than at the first time.
    """
    expected = expected or Expected()
    found = None if again else _known(source, expected)
    if found:
        return found
    with _alone(_home(source), source):
        found = None if again else _known(source, expected)  # another process was faster
        return found or _get(source, expected, again)


def recognise(name: str, path: Path, expected: Expected, again: bool = False) -> Fetched:
    """A file that somebody has put here under a name: the first time it is recorded, and from then on compared.

    Raises `UserError` for a file that is not what was published, or another one than at the first time, but with `again`.
    """
    digest, home = sha256_of(path), folder() / f'by-hand-{name}'
    expected.check(path, digest, f"'{path}'")
    before = None if again else _read(home)
    if before and before['sha256'] != digest:
        raise UserError(
            f"'{path}' is another file than at its first use: its SHA-256 is {digest}, and was {before['sha256']};"
            f' take it all the same: basicsr fetch --again {name}')
    known = 'as published' if expected.sha256 else 'as at its first use' if before else ''
    if not before:
        with suppress(PermissionError):  # a folder that many share: it is read only
            write_json(home / _RECORD, {'file': path.name, 'bytes': path.stat().st_size, 'sha256': digest})
    get_root_logger().info(f"{name}: SHA-256 {known or f'{digest} (not known before, and compared with from now on)'}")
    return Fetched(path, digest, not before)


def _known(source: Source, expected: Expected) -> Fetched | None:
    """What was fetched, compared with its record."""
    path, record = find_fetched(source), _read(_home(source))
    if path is None or record is None:
        return None
    digest = sha256_of(path)
    if digest != record['sha256']:
        raise UserError(
            f"'{path}' is no longer what was fetched from {source}; get it anew: basicsr fetch --again {source}")
    expected.check(path, digest, str(source))
    get_root_logger().info(f'{source}: SHA-256 as ' + ('published' if expected.sha256 else 'at its first fetch'))
    return Fetched(path, digest, False)


def _get(source: Source, expected: Expected, again: bool) -> Fetched:
    home = _home(source)
    before = None if again else _read(home)  # of a file that is gone
    record: dict[str, Any] = {'address': str(source)}
    part, licence = home / _PART, ''
    if isinstance(source, HubFile):
        # without a name of a revision, the one that was fetched at first
        pinned = HubFile(source.repository, before['revision'], before['file']) if before else source
        path, record['revision'], record['file'], licence = fetch_from_hub(pinned, again)
    else:
        _forbid_offline(source)
        if again:
            discard(part)
        path, record['file'] = part, _download(source, part, expected)
    try:
        digest = sha256_of(path)
        expected.check(path, digest, str(source))
        if before and before['sha256'] != digest:
            raise UserError(f"{source} is another file than at its first fetch: its SHA-256 is {digest}, and was"
                            f" {before['sha256']}; take it all the same: basicsr fetch --again {source}")
    except UserError:
        if path == part:
            discard(part)
        raise
    if path == part:
        path = home / record['file']
        os.replace(part, path)
        discard(part)
    write_json(home / _RECORD, record | {'bytes': path.stat().st_size, 'sha256': digest})
    known = 'as published' if expected.sha256 else 'not known before, and compared with from now on'
    get_root_logger().info(f"fetched {source}: {path.stat().st_size:,d} bytes, SHA-256 {digest} ({known})")
    return Fetched(path, digest, True, licence)


def _download(source: Source, part: Path, expected: Expected) -> str:
    if isinstance(source, DriveFile):
        return download_from_drive(source, part, expected.bytes) or 'weights'
    if isinstance(source, HubFile):
        raise TypeError(source)
    return download(source.url, part, expected.bytes) or source.name


def _forbid_offline(source: Source) -> None:
    if os.environ.get('HF_HUB_OFFLINE', '').upper() in ('1', 'ON', 'YES', 'TRUE'):
        raise UserError(f"'{source}' has not been fetched, and HF_HUB_OFFLINE forbids to fetch anything")


def _home(source: Source) -> Path:
    address = str(source)
    words = re.sub(r'\W+', '-', address.partition(':')[2]).strip('-')[-60:]
    return folder() / f'{words}-{hashlib.sha256(address.encode()).hexdigest()[:8]}'


def _read(home: Path) -> dict[str, Any] | None:
    """The record of a folder; None where there is none, or none that can be read."""
    try:
        record = json.loads((home / _RECORD).read_text(encoding='utf-8'))
        return record if {'file', 'sha256'} <= record.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


@contextmanager
def _alone(home: Path, source: Source) -> Iterator[None]:
    """No other process or thread fetches the same."""
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / '.lock')
    try:
        lock.acquire(timeout=0)
    except Timeout:
        get_root_logger().info(f'another process is fetching {source}; waiting for it')
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
