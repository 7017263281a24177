"""Boxes, in which ISO's containers hold everything: JPEG 2000, HEIC, AVIF."""
from __future__ import annotations

import struct
from collections.abc import Iterator


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each; those within a box are in its content."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from('>I4s', data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            size, head = struct.unpack_from('>Q', data, at + 8)[0], 16
        size = size or len(data) - at
        if size < head:
            return
        yield kind, data[at + head:at + size]
        at += size


def box(kind: bytes, body: bytes) -> bytes:
    """A box, of any length."""
    if len(body) + 8 < 1 << 32:
        return struct.pack('>I4s', len(body) + 8, kind) + body
    return struct.pack('>I4sQ', 1, kind, len(body) + 16) + body
