"""Image resources of Photoshop, in which JPEG and TIFF files hold IPTC data."""
from __future__ import annotations

import struct
from collections.abc import Iterator

SIGNATURE, _IPTC = b'8BIM', 0x0404
_THUMBNAILS = (0x0409, 0x040c)


def _parts(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, content, and all bytes of each resource, as far as they can be read."""
    at = 0
    while data[at:at + 4] == SIGNATURE and at + 12 <= len(data):
        number = struct.unpack_from('>H', data, at + 4)[0]
        name = data[at + 6] + 1  # with its length, to an even number of bytes
        place = at + 6 + name + name % 2
        if place + 4 > len(data):
            return
        size = struct.unpack_from('>I', data, place)[0]
        end = place + 4 + size + size % 2
        yield number, data[place + 4:place + 4 + size], data[at:end]
        at = end


def without_thumbnails(data: bytes) -> bytes:
    """The same without pictures of how the photo looked before."""
    return b''.join(whole for number, _, whole in _parts(data) if number not in _THUMBNAILS)


def iptc(data: bytes) -> bytes:
    """The IPTC records; b'' where there are none."""
    return next((content for number, content, _ in _parts(data) if number == _IPTC), b'')


def of_iptc(records: bytes) -> bytes:
    """Resources that hold these records alone."""
    return SIGNATURE + struct.pack('>HHI', _IPTC, 0, len(records)) + records + bytes(len(records) %
                                                                                     2) if records else b''
