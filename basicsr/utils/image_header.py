"""What an image file is, from its bytes: needed to say what reading changes, to notice cut-off files, to know sizes."""
from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from basicsr.utils import tiff

_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_CHANNELS = {0: 'grey', 2: 'colour', 3: 'colour', 4: 'grey with alpha', 6: 'colour with alpha'}
_CODESTREAM = b'\xff\x4f\xff\x51'  # where the pixels of JPEG 2000 begin


class Header(NamedTuple):
    """What is known without decoding.

    Attributes:
        kind: channels as stored. bits: per channel. rotated: a tag asks for rotation. complete: has its end.
        pages: of a document, or frames of an animation; only the first is read.
        misread: why OpenCV would read other pixels than those stored, '' where it does not.
        multiplied: OpenCV multiplies the colours by alpha.
        size: (height, width) as stored, in pixels; None where the bytes do not tell.
    """
    kind: str = 'colour'
    bits: int = 8
    rotated: bool = False
    complete: bool = True
    pages: int = 1
    misread: str = ''
    multiplied: bool = False
    size: tuple[int, int] | None = None

    def remarks(self) -> list[str]:
        """What reading such a file as RGB does to it, in words."""
        alpha = self.kind.endswith('alpha')
        return [
            text for applies, text in (
                (self.kind.startswith('grey'), 'grey, read as three equal channels'),
                (alpha and not self.multiplied, 'with an alpha channel, which is dropped'),
                (alpha and self.multiplied, 'with an alpha channel, by which the colours are multiplied'),
                (self.bits == 16, '16-bit, read in full depth'),
                (self.rotated, 'rotated upright as their EXIF tag says'),
            ) if applies
        ]


def read_header(data: bytes) -> Header:
    """Header of PNG, JPEG, TIFF, WebP and GIF bytes; other formats report the defaults."""
    if data.startswith(_PNG) and len(data) > 26:
        # a complete PNG ends with an empty IEND chunk (12 bytes); some writers append text after it
        width, height = struct.unpack('>II', data[16:24])
        return Header(_PNG_CHANNELS.get(data[25], 'colour'), data[24], False,
                      data.rfind(b'IEND') > 0, _png_frames(data), size=(height, width))
    if data.startswith(b'\xff\xd8'):
        return _jpeg(data)
    if data.startswith((b'II', b'MM')):
        return _tiff(data)
    if data.startswith(b'RIFF') and data[8:12] == b'WEBP':
        chunks = list(_webp_chunks(data))
        alpha = any(name == b'VP8X' and body[:1] and body[0] & 0x10 for name, body in chunks)
        return Header('colour with alpha' if alpha else 'colour', pages=sum(n == b'ANMF' for n, _ in chunks) or 1)
    if data.startswith((b'GIF87a', b'GIF89a')):
        return Header(pages=_gif_frames(data))
    return Header()


def longest_zeros(data: bytes, least: int) -> int:
    """Length of a run of more than `least` zero bytes amid the pixels of WebP and JPEG 2000, 0 where there is none.

    Their arithmetic coders write no such run, but for pictures of one colour: a byte for some 10,000 pixels. Neither
    format has checksums, and decoders make a picture of it.
    """
    parts = [body for name, body in _webp_chunks(data) if name in (b'VP8 ', b'VP8L')]
    if data.startswith((b'\0\0\0\x0cjP  ', _CODESTREAM)):
        parts = [data[data.find(_CODESTREAM):]]
    for part in parts:
        at = part.find(bytes(least + 1))
        if at >= 0:
            return len(part) - at - len(part[at:].lstrip(b'\0'))
    return 0


def has_its_checksums(data: bytes) -> bool:
    """Whether the pixels of a TIFF fit the checksums that they have; true of other formats, whose decoders look."""
    return all(tiff.whole(data, page) for page in tiff.directories(data)[:1])


def _jpeg(data: bytes) -> Header:
    kind, rotated, at, shape = 'colour', False, 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # the standard allows fill bytes before a marker
            at += 1
            continue
        marker, size = data[at + 1], struct.unpack('>H', data[at + 2:at + 4])[0]
        if marker == 0xE1 and data[at + 4:at + 10] == b'Exif\0\0':
            rotated = tiff.orientation(data[at + 10:at + 2 + size]) not in (0, 1)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 < len(data):
            kind = 'grey' if data[at + 9] == 1 else 'colour'
            shape = struct.unpack('>HH', data[at + 5:at + 9])
        elif marker == 0xDA:  # pixel data follow; inside them FFD9 can only be the end-of-image marker
            return Header(kind, 8, rotated, data.find(b'\xff\xd9', at) >= 0, size=shape)
        at += 2 + size
    return Header(kind, 8, rotated, False, size=shape)


def _tiff(data: bytes) -> Header:
    found = tiff.directories(data)
    if not found:
        return Header()
    page = found[0]
    return Header(tiff.kind(page), tiff.bits(page),
                  tiff.orientation(data) > 1, True, tiff.pages(found), tiff.misread(page), tiff.multiplied(page))


def _png_frames(data: bytes) -> int:
    """An animation says so before its pixels."""
    at = data.find(b'acTL', 0, max(data.find(b'IDAT'), 0))
    return struct.unpack('>I', data[at + 4:at + 8])[0] if at > 0 else 1


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each; none where this is no WebP."""
    at = 12 if data.startswith(b'RIFF') and data[8:12] == b'WEBP' else len(data)
    while at + 8 <= len(data):
        size = struct.unpack('<I', data[at + 4:at + 8])[0]
        yield data[at:at + 4], data[at + 8:at + 8 + size]
        at += 8 + size + size % 2


def _gif_frames(data: bytes) -> int:
    """Counts the images among the blocks."""
    at, count = 13 + _gif_palette(data[10:11]), 0
    while data[at:at + 1] in (b'!', b','):
        if data[at:at + 1] == b',':
            count += 1
            at += 11 + _gif_palette(data[at + 9:at + 10])
        else:
            at += 2
        while at < len(data) and data[at]:  # parts, each with its length in front; one of length 0 ends them
            at += data[at] + 1
        at += 1
    return count or 1


def _gif_palette(flags: bytes) -> int:
    """Bytes of the palette that follows."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0
