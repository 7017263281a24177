"""Get a file by https: a connection that is cut is taken up again where it ended, in this call or in a later one."""
from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from basicsr import __version__
from basicsr.utils.errors import UserError
from basicsr.utils.fetching.addresses import as_ascii, check_url
from basicsr.utils.files import atomic_write
from basicsr.utils.logger import get_root_logger
from basicsr.utils.names import name_mistake

_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20
_PAUSES = (1, 2, 4)  # seconds before each further try that follows one without a byte
_PAGE = 1 << 20  # bytes of a web page that are read


class _Cut(Exception):
    """The connection ended early, or none came about; another try may do better."""


class _SafeRedirects(HTTPRedirectHandler):
    """Follows to https only."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, part: Path, expected: int | None = None, next_url: Callable[[str], str] | None = None) -> str:
    """Get all of a file, and return the name that the server gives it, '' where it says none.

    Args:
        part: where it is written; what an earlier call has left there is completed, unless the server's file is another.
        expected: bytes, where they are known.
        next_url: from a web page that comes in place of the file to the address of the file. None: a page is an error.

    Raises:
        UserError: names the address and what its server says. What has arrived stays in `part`, except of another size.
    """
    tries = 0
    while True:
        before = _size(part)
        try:
            with _open(url, part) as response:
                if response.headers.get_content_type() == 'text/html':
                    if next_url is None:
                        raise UserError(
                            f"'{url}' is a web page, not a file of weights; take the link of the file itself")
                    url, next_url = next_url(response.read(_PAGE).decode('utf-8', 'replace')), None
                    check_url(url)
                    continue
                _receive(response, part, url, expected)
                return _name(response)
        except _Cut as error:
            tries = 0 if _size(part) > before else tries + 1
            if tries > len(_PAUSES):
                kept = _size(part)
                rest = f'; the {kept:,d} bytes that came are kept, and the next try goes on from there' if kept else ''
                raise UserError(f"'{url}' cannot be fetched: {error}{rest}") from error
            get_root_logger().info(f'{error}; trying again')
            time.sleep(_PAUSES[max(tries - 1, 0)])


def _open(url: str, part: Path) -> HTTPResponse:
    headers = {'User-Agent': f'retinexmamba/{__version__}', 'Accept-Encoding': 'identity'}
    version = _version_file(part)
    if _size(part) and version.is_file():
        headers |= {'Range': f'bytes={_size(part)}-', 'If-Range': version.read_text(encoding='utf-8')}
    try:
        return build_opener(_SafeRedirects).open(Request(as_ascii(url), headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left of it, or it has become shorter
            part.unlink()
            return _open(url, part)
        if error.code in (408, 429) or error.code >= 500:
            raise _Cut(f'the server answers {error.code} {error.reason}') from error
        if HTTPRedirectHandler.inf_msg.splitlines()[0] in str(error.reason):
            raise UserError(
                f"'{url}' cannot be fetched: its server sends on from address to address without end") from error
        hints = {401: '; it asks for a login', 403: '; it refuses access', 404: '; there is no such file'}
        raise UserError(f"'{url}' cannot be fetched: the server answers {error.code} {error.reason}"
                        f"{hints.get(error.code, '')}") from error
    except URLError as error:
        raise _Cut(f'the server cannot be reached ({error.reason})') from error
    except (InvalidURL, ValueError) as error:  # of a redirect; no other try does better
        raise UserError(f"'{url}' cannot be fetched: its server sends on to what is no address ({error})") from error
    except (HTTPException, OSError) as error:
        raise _Cut(f'the connection failed ({error or type(error).__name__})') from error


def _receive(response: HTTPResponse, part: Path, url: str, expected: int | None) -> None:
    """Write the body behind what is there, or anew where the server begins at the beginning."""
    start = _size(part) if response.status == 206 else 0
    length = response.headers.get('Content-Length')
    total = start + int(length) if length and length.isdigit() else expected
    if expected is not None and total != expected:
        raise UserError(f"'{url}' has {total:,d} bytes, and what was published has {expected:,d}")
    if not start:
        part.unlink(missing_ok=True)
        _keep_version(response, part)
    with part.open('ab') as file, tqdm(total=total, initial=start, unit='B', unit_scale=True,
                                       disable=not sys.stderr.isatty()) as bar:
        for chunk in _chunks(response):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and _size(part) < total:
        raise _Cut(f'the connection was cut at {_size(part):,d} of {total:,d} bytes')


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """The body; failures of the connection stand apart from those of the disk."""
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (HTTPException, OSError) as error:
            raise _Cut(f'the connection was cut ({error or type(error).__name__})') from error
        if not chunk:
            return
        yield chunk


def _keep_version(response: HTTPResponse, part: Path) -> None:
    """What tells the server's file from a later one of its name; without, nothing is taken up again."""
    etag = response.headers.get('ETag', '')
    version = etag if etag and not etag.startswith('W/') else response.headers.get('Last-Modified')
    if version:
        with atomic_write(_version_file(part), 'w') as file:
            file.write(version)
    else:
        _version_file(part).unlink(missing_ok=True)


def _version_file(part: Path) -> Path:
    return part.with_name(f'{part.name}.version')


def discard(part: Path) -> None:
    """Remove an unfinished file with what belongs to it."""
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _name(response: HTTPResponse) -> str:
    name = re.split(r'[/\\]', response.headers.get_filename() or '')[-1]
    return '' if name_mistake(name) else name
