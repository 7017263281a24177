"""Addresses of weight files: `hf:owner/repository[@revision][:file]`, `https://...`, a link to a file on Google Drive."""
from __future__ import annotations

import re
import string
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from basicsr.utils.errors import UserError
from basicsr.utils.names import name_mistake

_LOCAL = ('localhost', '127.0.0.1', '::1')  # no one listens in on the way


@dataclass(frozen=True)
class HubFile:
    """A file of a model repository.

    Attributes:
        repository: 'owner/name'. revision: branch, tag or commit. file: its path in there; '' takes the only weights.
    """
    repository: str
    revision: str = 'main'
    file: str = ''

    def __str__(self) -> str:
        revision = '' if self.revision == 'main' else f'@{self.revision}'
        return f"hf:{self.repository}{revision}{':' if self.file else ''}{self.file}"

    @property
    def title(self) -> str:
        """What results of these weights are called."""
        stem = PurePosixPath(self.file).stem
        return self.repository.rpartition('/')[2] + (f'_{stem}' if stem not in ('', 'model') else '')


@dataclass(frozen=True)
class WebFile:
    """A file at an address."""
    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def title(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def name(self) -> str:
        """Of the file, where the server does not say another one."""
        name = unquote(urlsplit(self.url).path).rpartition('/')[2]
        return 'weights' if name_mistake(name) else name


@dataclass(frozen=True)
class DriveFile:
    """A file that its owner shares on Google Drive."""
    id: str

    def __str__(self) -> str:
        return f'https://drive.google.com/file/d/{self.id}/view'

    @property
    def title(self) -> str:
        return f'drive_{self.id[:8]}'


Source = HubFile | WebFile | DriveFile


def is_address(text: str) -> bool:
    """Whether a text is meant as an address, not as a path or name."""
    return bool(re.match(r'hf:|https?://', text))


def read_address(text: str) -> Source:
    """What an address leads to. Raises `UserError` where it is none, or leads over a connection that anyone may change."""
    if text.startswith('hf:'):
        found = re.fullmatch(r'hf:([\w.-]+/[\w.-]+)(?:@([^:@]+))?(?::([^:]+))?', text)
        if not found:
            raise UserError(f"'{text}' is no address on the hub; it is written hf:OWNER/REPOSITORY[@REVISION][:FILE]")
        return HubFile(found[1], found[2] or 'main', found[3] or '')
    check_url(text)
    parts = urlsplit(text)
    if parts.hostname == 'drive.google.com':
        found = re.search(r'/file/d/([\w-]+)', parts.path)
        ids = [found[1]] if found else parse_qs(parts.query).get('id', [])
        if not ids:
            raise UserError(f"'{text}' is no link to a file on Google Drive; of a folder, take the link of one file")
        return DriveFile(ids[0])
    return WebFile(text)


def as_ascii(url: str) -> str:
    """An address as it is sent: other letters and blanks of the path by their bytes, those of the host by IDNA.

    Raises `ValueError` for what is in no encoding, and for names that IDNA does not take.
    """
    parts = urlsplit(url)
    who, at, host = parts.netloc.rpartition('@')
    if not host.isascii():
        port = '' if parts.port is None else f':{parts.port}'
        host = (parts.hostname or '').encode('idna').decode() + port
    rest = (quote(part, safe=string.punctuation) for part in (parts.path, parts.query, parts.fragment))
    return urlunsplit((parts.scheme, quote(who, safe=string.punctuation) + at + host, *rest))


def check_url(url: str) -> None:
    """Raise `UserError` unless the address is https, or http to this machine, and can be sent."""
    try:
        as_ascii(url)
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"'{url}' is no address: {error}") from error
    if host and re.search(r'[\s\x00-\x1f]', host):
        raise UserError(f"'{url}' is no address: there is a blank in the name of its host")
    if not host or not (parts.scheme == 'https' or (parts.scheme == 'http' and host in _LOCAL)):
        raise UserError(f"'{url}': weights are fetched by https:// only (http:// from this machine)")
