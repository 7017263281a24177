"""What an image file is, from its first bytes: needed to say what reading changes, to notice cut-off files, to know sizes."""
from __future__ import annotations

import struct
from typing import NamedTuple

_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_CHANNELS = {0: 'grey', 2: 'colour', 3: 'colour', 4: 'grey with alpha', 6: 'colour with alpha'}


class Header(NamedTuple):
    """`kind`: channels as stored. `bits`: per channel. `rotated`: an EXIF tag asks for rotation. `complete`: has its end.

    `size`: (height, width) as stored, in pixels; None where the bytes do not tell.
    """
    kind: str = 'colour'
    bits: int = 8
    rotated: bool = False
    complete: bool = True
    size: tuple[int, int] | None = None

    def remarks(self) -> list[str]:
        """What reading such a file as RGB does to it, in words."""
        return [
            text for applies, text in (
                (self.kind.startswith('grey'), 'grey, read as three equal channels'),
                (self.kind.endswith('alpha'), 'with an alpha channel, which is dropped'),
                (self.bits == 16, '16-bit, read in full depth'),
                (self.rotated, 'rotated upright as their EXIF tag says'),
            ) if applies
        ]


def read_header(data: bytes) -> Header:
    """Header of PNG and JPEG bytes; other formats report the defaults."""
    if data.startswith(_PNG) and len(data) > 26:
        # a complete PNG ends with an empty IEND chunk (12 bytes); some writers append text after it
        width, height = struct.unpack('>II', data[16:24])
        return Header(_PNG_CHANNELS.get(data[25], 'colour'), data[24], False, data.rfind(b'IEND') > 0, (height, width))
    if data.startswith(b'\xff\xd8'):
        return _jpeg(data)
    return Header()


def _jpeg(data: bytes) -> Header:
    kind, rotated, at, shape = 'colour', False, 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # the standard allows fill bytes before a marker
            at += 1
            continue
        marker, size = data[at + 1], struct.unpack('>H', data[at + 2:at + 4])[0]
        if marker == 0xE1 and data[at + 4:at + 10] == b'Exif\0\0':
            rotated = _exif_orientation(data[at + 10:at + 2 + size]) not in (0, 1)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 < len(data):
            kind = 'grey' if data[at + 9] == 1 else 'colour'
            shape = struct.unpack('>HH', data[at + 5:at + 9])
        elif marker == 0xDA:  # pixel data follow; inside them FFD9 can only be the end-of-image marker
            return Header(kind, 8, rotated, data.find(b'\xff\xd9', at) >= 0, shape)
        at += 2 + size
    return Header(kind, 8, rotated, False, shape)


def _exif_orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory, 0 when absent."""
    try:
        order = {b'II': '<', b'MM': '>'}[tiff[:2]]
        start = struct.unpack(order + 'I', tiff[4:8])[0]
        count = struct.unpack(order + 'H', tiff[start:start + 2])[0]
        for i in range(count):
            tag, _, _, value = struct.unpack(order + 'HHIH', tiff[start + 2 + 12 * i:start + 12 + 12 * i])
            if tag == 0x0112:
                return value
    except (KeyError, struct.error):
        pass
    return 0
