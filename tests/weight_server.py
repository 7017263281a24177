"""A server on this machine that gives files as the web, a model hub and Google Drive do, and fails where a test wants it to."""
from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = 'c0ffee' * 6 + 'c0ff'


@dataclass
class WeightServer:
    """
    Attributes:
        files: content by path. names: what `Content-Disposition` calls them. redirects: to other addresses.
        answers: status and headers in place of the file. pages: web pages in place of the file, by path.
        cuts: how many bytes of the body come before the connection is cut, a number for each of the next requests.
        ranges: parts are given. tagged: files have an ETag. before: called before a file is sent.
        repositories: tags of the hub's repositories. asked: (method, path with query, range) of all requests.
    """
    files: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    tagged: bool = True
    before: Callable[[], Any] = bool
    repositories: dict[str, list[str]] = field(default_factory=dict)
    commit: str = COMMIT
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ''

    def add_repository(self, name: str, files: dict[str, bytes], tags: tuple[str, ...] = ('license:mit', )) -> None:
        self.repositories[name] = list(tags)
        self.files |= {f'/{name}/resolve/{self.commit}/{file}': content for file, content in files.items()}

    def bodies(self, path: str) -> list[str | None]:
        """The ranges of all requests for the content of a file."""
        return [part for method, asked, part in self.asked if method == 'GET' and asked.partition('?')[0] == path]

    def info(self, path: str) -> dict[str, Any] | None:
        """What the hub says of a repository, None where it has none of that name or revision."""
        found = re.fullmatch(r'/api/models/([^/]+/[^/]+)(?:/revision/(.+))?', path)
        if not found or found[1] not in self.repositories or found[2] not in (None, 'main', 'v1', self.commit):
            return None
        start = f'/{found[1]}/resolve/{self.commit}/'
        files = [{'rfilename': path.removeprefix(start)} for path in self.files if path.startswith(start)]
        return {'id': found[1], 'sha': self.commit, 'siblings': files, 'tags': self.repositories[found[1]]}


@contextmanager
def running() -> Iterator[WeightServer]:
    server = WeightServer()

    class Handler(_Handler):
        weights = server

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={'poll_interval': .01}, daemon=True)
        thread.start()
        server.url = f'http://127.0.0.1:{http.server_port}'
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    weights: WeightServer
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server, path = self.weights, urlsplit(self.path).path
        server.asked.append((self.command, self.path, self.headers.get('Range')))
        if path in server.redirects:
            return self.say(302, {'Location': server.redirects[path]})
        if path in server.answers:
            return self.say(*server.answers[path])
        if path in server.pages and 'confirm' not in self.path:
            return self.say(200, {'Content-Type': 'text/html; charset=utf-8'}, server.pages[path].encode())
        if path.startswith('/api/'):
            return self.api(path)
        repository = '/'.join(path.split('/')[1:3])
        headers = {'X-Repo-Commit': server.commit} if repository in server.repositories else {}
        if path not in server.files:
            return self.say(404, headers | ({'X-Error-Code': 'EntryNotFound'} if headers else {}))
        server.before()
        self.file(server.files[path], headers, path)

    def api(self, path: str) -> None:
        info = self.weights.info(path)
        if info is not None:
            return self.say(200, {'Content-Type': 'application/json'}, json.dumps(info).encode())
        repository = '/'.join(path.split('/')[3:5])
        known = repository in self.weights.repositories
        self.say(404 if known else 401, {'X-Error-Code': 'RevisionNotFound' if known else 'RepoNotFound'})

    def file(self, content: bytes, headers: dict[str, str], path: str) -> None:
        server = self.weights
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers |= {'Content-Type': 'application/octet-stream'} | ({'ETag': etag} if server.tagged else {})
        if path in server.names:
            headers['Content-Disposition'] = f'attachment; filename="{server.names[path]}"'
        asked, status = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range') or ''), 200
        if asked and server.ranges and self.headers.get('If-Range', etag) == etag:
            start = int(asked[1])
            if start >= len(content):
                return self.say(416, {'Content-Range': f'bytes */{len(content)}'})
            headers['Content-Range'] = f'bytes {start}-{len(content) - 1}/{len(content)}'
            content, status = content[start:], 206
        cuts = server.cuts.get(path)
        self.say(status, headers, content, cuts.pop(0) if cuts and self.command == 'GET' else None)

    def say(self, status: int, headers: dict[str, str], content: bytes = b'', cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content[:cut])
        if cut is not None:
            self.close_connection = True
