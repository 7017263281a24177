"""OpenCV's decoders, and what they say of damaged files: on stderr, from C, without the name of the file.

libjpeg and libtiff make a picture of what is left and tell the rest there only. It costs a few microseconds to listen.
"""
from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import cv2
import numpy as np

# "[ERROR:0@0.353] global grfmt_tiff.cpp:117 TIFF_Error " before the words of the library
_PREFIX = re.compile(r'^\[ *(?P<level>[A-Z]+):\d+@[\d.]+\] global \S+ (?:\w+ )?')
_DAMAGE = re.compile(
    r'^(?!.*extraneous bytes).*Corrupt JPEG data|Premature end of JPEG|Inconsistent progression|Invalid SOS'
    r'|libpng error|Error|Discarding \d+ bytes')
_OF_NO_PIXEL = re.compile(r'Bad value \d+ for "Orientation" tag')  # an error for libtiff; the image stays as it is
_DOUBT = re.compile(r'Corrupt JPEG data: \d+ extraneous bytes before marker 0xd')  # left over, or padding


class Messages(list[str]):
    """The lines of a decoder, without what OpenCV puts before them."""

    def __init__(self, text: str):
        # without what OpenCV adds when a library has said why
        lines = [line for line in text.splitlines() if line.strip() and ' imdecode_ ' not in line]
        super().__init__(_PREFIX.sub('', line).strip() for line in lines)
        levels = [match['level'] if (match := _PREFIX.match(line)) else '' for line in lines]
        self.damage = next((t for t, level in zip(self, levels)
                            if (level in ('ERROR', 'FATAL') or _DAMAGE.search(t)) and not _OF_NO_PIXEL.search(t)), '')
        self.doubt = next((t for t in self if _DOUBT.search(t)), '')


class _Ears:
    """One file that stderr is led to while a decoder works. Two threads would not know whose words it holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.shared = False  # somebody listens to all threads
        self.file: IO[bytes] | None = None
        if hasattr(os, 'register_at_fork'):  # a child must neither find the lock taken nor stderr led away
            os.register_at_fork(before=self.lock.acquire, after_in_parent=self.lock.release, after_in_child=self._anew)

    def _anew(self) -> None:
        self.file = None  # the parent's; they would share their place in it
        self.lock.release()

    @contextmanager
    def open(self) -> Iterator[list[str]]:
        """Take the lock; the list holds what was written when the block has ended."""
        heard: list[str] = []
        with self.lock:
            stderr = self._keep_stderr()
            try:
                if self.file is not None and stderr is not None:
                    os.dup2(self.file.fileno(), 2)
                yield heard
            finally:
                if self.file is not None and stderr is not None:
                    os.dup2(stderr, 2)
                    os.close(stderr)
                    if self.file.tell():
                        self.file.seek(0)
                        heard.append(self.file.read().decode(errors='backslashreplace'))
                        self.file.seek(0)
                        self.file.truncate()

    def _keep_stderr(self) -> int | None:
        """Another number for what stderr is; None where there is none, or no place for the file: nothing is heard."""
        try:
            self.file = self.file or tempfile.TemporaryFile(buffering=0)
            return os.dup(2)
        except OSError:
            return None


_ears = _Ears()


def decode(data: bytes, flags: int) -> tuple[np.ndarray | None, Messages]:
    """`cv2.imdecode`, and what the decoder said; None for what is no image. Raises `cv2.error`."""
    array = np.frombuffer(data, np.uint8)
    if _ears.shared:
        return cv2.imdecode(array, flags), Messages('')
    with _ears.open() as heard:
        img = cv2.imdecode(array, flags)
    return img, Messages(''.join(heard))


def decode_pages(data: bytes, flags: int) -> tuple[Sequence[np.ndarray], Messages]:
    """As `decode`, of all pages; as many as OpenCV can read."""
    with _ears.open() as heard:
        _, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), flags)
    return pages or (), Messages(''.join(heard))


@contextmanager
def listening() -> Iterator[list[str]]:
    """What libraries write to stderr within the block is in the list when it has ended, and not on stderr."""
    with _ears.open() as heard:
        yield heard


@contextmanager
def decoding_in_threads() -> Iterator[list[str]]:
    """Let threads decode at once. The list is not empty afterwards where a decoder has said something of any file.

    Of which one, decoding them again, one after the other, tells.
    """
    with _ears.open() as heard:
        _ears.shared = True
        try:
            yield heard
        finally:
            _ears.shared = False
