"""Zero bytes in a row amid the pixels of formats without checksums: a block that was lost, of which decoders make a picture."""
from __future__ import annotations

import struct
from collections.abc import Iterator

from basicsr.utils.image_header import webp_images

_JP2, _CODESTREAM = b'\0\0\0\x0cjP  ', b'\xff\x4f\xff\x51'
_BASELINE, _TABLES, _SCAN = (0xC0, 0xC1), 0xC4, 0xDA  # JPEG's markers
_END = b'\xff\xd9'
_FEW = 32  # more that mean what no picture has


def longest_zeros(data: bytes, least: int) -> int:
    """Length of a run of zero bytes amid the pixels of JPEG, WebP and JPEG 2000 that no encoder has written; 0 without one.

    `least`: as many may be in a row in WebP and JPEG 2000. Their arithmetic coders write long runs of pictures of one
    colour alone: a byte for some 10,000 pixels.
    """
    if data.startswith(b'\xff\xd8'):
        return _run(_scan(data), _FEW)
    parts = [body for name, body in webp_images(data) if name in (b'VP8 ', b'VP8L')]
    if data.startswith((_JP2, _CODESTREAM)):
        parts = [data[data.find(_CODESTREAM):]]
    return next(filter(None, (_run(part, least) for part in parts)), 0)


def _run(data: bytes, least: int) -> int:
    """Length of the first run of more than `least`."""
    at = data.find(bytes(least + 1))
    return len(data) - at - len(data[at:].lstrip(b'\0')) if at >= 0 else 0


def _scan(data: bytes) -> bytes:
    """The pixels of a baseline JPEG; b'' where zeros may be in a row.

    A table of Huffman codes has the symbol of code 0 first. Where that means "no more of this block" in all tables, zeros are
    an even area, or a ramp. Where one means anything else, as in the tables that cameras use, zeros are a pattern that
    repeats itself from block to block.
    """
    at, even, channels = 2, True, 0
    while at + 9 < len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # the standard allows fill bytes before a marker
            at += 1
            continue
        marker, size = data[at + 1], struct.unpack_from('>H', data, at + 2)[0]
        if marker == _TABLES:
            even = even and not any(_first_symbols(data[at + 4:at + 2 + size]))
        elif marker in _BASELINE:
            channels = data[at + 9]
        elif marker == _SCAN:
            if even or data[at + 4] != channels:  # colours of their own may be even
                return b''
            end = data.find(_END, at)  # behind it other pictures may follow, videos, or nothing but zeros
            return data[at:] if end < 0 else data[at:end]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC8, 0xCC):  # progressive, arithmetic
            return b''
        at += 2 + size
    return b''


def _first_symbols(tables: bytes) -> Iterator[int]:
    """Of the tables for all but the mean of a block."""
    at = 0
    while at + 17 < len(tables):
        if tables[at] >> 4:
            yield tables[at + 17]
        at += 17 + sum(tables[at + 1:at + 17])
