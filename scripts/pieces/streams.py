"""Many files as one stream: written in parts of a size, and read one after the other."""
from __future__ import annotations

import hashlib
import io
from collections.abc import Container, Iterable
from pathlib import Path


class Cutter(io.RawIOBase):
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


class Joiner(io.RawIOBase):
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
