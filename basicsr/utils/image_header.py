"""What an image file is, from its bytes: needed to say what reading changes, to notice cut-off files, to know sizes."""
from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from basicsr.utils import tiff

_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_CHANNELS = {0: 'grey', 2: 'colour', 3: 'colour', 4: 'grey with alpha', 6: 'colour with alpha'}
_JP2 = b'\0\0\0\x0cjP  '
_CODESTREAM = b'\xff\x4f\xff\x51'  # where the pixels of JPEG 2000 begin
_END = b'\xff\xd9'  # of an image in JPEG and JPEG 2000, whose pixels never hold it
_EXIF = 1 << 16  # bytes, the most that there are in a JPEG
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # their lengths; the first is that of OS/2
# P1 to P6, width, height and but for bitmaps largest value, with comments between
_NUMBER = rb'(?:\s|#[^\n]*\n)+(\d{1,9})'
_NETPBM = re.compile(rb'P(?:([14])' + _NUMBER * 2 + rb'|([2356])' + _NUMBER * 3 + rb')\s')
CUT_OFF = 'is cut off: the end of the image is missing (an incomplete download or copy?)'


class Header(NamedTuple):
    """What is known without decoding.

    Attributes:
        kind: channels as stored. bits: per channel. rotated: a tag asks for rotation.
        refused: why it is not read, in words; '' where nothing speaks against it.
        pages: of a document, or frames of an animation; only the first is read.
        multiplied: OpenCV multiplies the colours by alpha.
        size: (height, width) as read, in pixels; None where the bytes do not tell, or decoders differ.
        surplus: bytes that the file has beyond what it says of its length; negative where it lacks them.
    """
    kind: str = 'colour'
    bits: int = 8
    rotated: bool = False
    refused: str = ''
    pages: int = 1
    multiplied: bool = False
    size: tuple[int, int] | None = None
    surplus: int = 0

    def odd_length(self) -> str:
        """What is odd about the length of the file, in words; ''."""
        amount = f'{abs(self.surplus)} bytes {"more" if self.surplus > 0 else "less"}'
        return f'has {amount} than its header says' if self.surplus else ''

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


class Ends(NamedTuple):
    """Bytes of a file: its first and its last ones, which are the same where all of it is there, and how many it has."""
    first: bytes
    last: bytes
    length: int


def read_header(data: bytes | Ends) -> Header:
    """The header of an image; of formats that are not known, the defaults.

    Of the ends of a file alone it may have no `size`, or be `refused` as cut off, where all of it would tell otherwise.
    """
    data = data if isinstance(data, Ends) else Ends(data, data, len(data))
    first = data.first
    if not data.length:
        return Header(refused='is empty')
    if first.startswith(_PNG) and len(first) > 26:
        return _png(data)
    if first.startswith(b'\xff\xd8'):
        return _jpeg(data)
    if first.startswith((b'II', b'MM')):
        return _tiff(data)
    if first.startswith(b'RIFF') and first[8:12] == b'WEBP':
        return _webp(data)
    if first.startswith(b'BM') and len(first) > 34:
        return _bmp(data)
    if first.startswith(_JP2):
        return _jp2(data)
    if first.startswith((b'GIF87a', b'GIF89a')):
        return Header(pages=_gif_frames(first))
    netpbm = _NETPBM.match(first)
    return _netpbm(data, netpbm) if netpbm else Header()


def _png(data: Ends) -> Header:
    width, height = struct.unpack_from('>II', data.first, 16)
    # the last chunk, IEND, is empty, and a checksum follows; some writers append text
    end = data.last.rfind(b'IEND')
    pixels = data.first.find(b'IDAT')
    # an animation says so before its pixels, rotation may stand behind them
    at = data.first.find(b'acTL', 0, max(pixels, 0))
    frames = struct.unpack_from('>I', data.first, at + 4)[0] if at > 0 else 1
    around = (data.first[:pixels], data.last[-_EXIF:])
    exif = next((part[i + 4:] for part in around if (i := part.find(b'eXIf')) >= 0), b'')
    return Header(_PNG_CHANNELS.get(data.first[25],
                                    'colour'), data.first[24], refused='' if 0 < end <= len(data.last) - 8 else CUT_OFF,
                  pages=frames, size=_upright(height, width, tiff.orientation(exif)) if pixels > 0 else None)


def _upright(height: int, width: int, orientation: int) -> tuple[int, int] | None:
    """Releases of OpenCV differ in which formats they turn by a quarter; but for JPEG, which all of them do."""
    return None if orientation > 4 else (height, width)


def _jpeg(data: Ends) -> Header:
    kind, turned, at, shape, first = 'colour', 0, 2, None, data.first
    while at + 4 <= len(first) and first[at] == 0xFF:
        if first[at + 1] == 0xFF:  # the standard allows fill bytes before a marker
            at += 1
            continue
        marker, size = first[at + 1], struct.unpack_from('>H', first, at + 2)[0]
        if marker == 0xE1 and first[at + 4:at + 10] == b'Exif\0\0':
            turned = tiff.orientation(first[at + 10:at + 2 + size])
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 < len(first):
            kind = 'grey' if first[at + 9] == 1 else 'colour'
            shape = struct.unpack_from('>HH', first, at + 5)
        elif marker == 0xDA:  # pixel data follow
            ended = first.find(_END, at) >= 0 or _END in data.last[-(data.length - at):]
            if shape and 5 <= turned <= 8:
                shape = shape[::-1]
            return Header(kind, 8, turned not in (0, 1), '' if ended else CUT_OFF, size=shape)
        at += 2 + size
    return Header(kind, 8, turned not in (0, 1), CUT_OFF)


def _tiff(data: Ends) -> Header:
    found = tiff.directories(data.first)
    if not found:
        return Header()
    page, turned = found[0], tiff.orientation(data.first)
    refused = tiff.misread(page) or ('' if tiff.complete(page, data.length) else CUT_OFF)
    shape = tiff.shape(page)
    return Header(tiff.kind(page), tiff.bits(page), turned > 1, refused, tiff.pages(found), tiff.multiplied(page), shape
                  and _upright(*shape, turned))


def _webp(data: Ends) -> Header:
    chunks = list(webp_chunks(data.first))
    named = dict(reversed(chunks))
    extended, lossless, lossy = (named.get(name, b'') for name in (b'VP8X', b'VP8L', b'VP8 '))
    flags, size = extended[0] if extended else 0, None
    if len(extended) >= 10:
        width, height = (int.from_bytes(extended[at:at + 3], 'little') + 1 for at in (4, 7))
        size = height, width
    elif lossless[:1] == b'\x2f' and len(lossless) >= 5:
        bits = struct.unpack_from('<I', lossless, 1)[0]
        size = (bits >> 14 & 0x3fff) + 1, (bits & 0x3fff) + 1
    elif lossy[3:6] == b'\x9d\x01\x2a' and len(lossy) >= 10:
        width, height = struct.unpack_from('<HH', lossy, 6)
        size = height & 0x3fff, width & 0x3fff
    if flags & 8:  # EXIF follows the pixels
        exif = named.get(b'EXIF')
        size = None if exif is None or size is None else _upright(*size, tiff.orientation(
            exif.removeprefix(b'Exif\0\0')))
    surplus = data.length - 8 - struct.unpack_from('<I', data.first, 4)[0]
    return Header('colour with alpha' if flags & 16 else 'colour', refused=CUT_OFF if surplus < 0 else '',
                  pages=sum(name == b'ANMF' for name, _ in chunks) or 1, size=size, surplus=surplus)


def _bmp(data: Ends) -> Header:
    said, start, length = struct.unpack_from('<I4xII', data.first, 2)
    if length == 12:
        (width, height, _, bits), packed = struct.unpack_from('<HHHH', data.first, 18), 0
    else:
        width, height, _, bits, packed = struct.unpack_from('<iiHHI', data.first, 18)
    if length not in _BMP_HEADERS or width <= 0 or not height:
        return Header()
    rows = (width * bits + 31) // 32 * 4 * abs(height)
    needed = start + (rows if packed in (0, 3) else 0)  # else run lengths
    # what some programs say of the length is nonsense
    surplus = data.length - said if said >= needed else 0
    return Header(refused=CUT_OFF if data.length < needed else '', size=(abs(height), width), surplus=surplus)


def _netpbm(data: Ends, found: re.Match[bytes]) -> Header:
    kind, width, height, largest = [*map(int, filter(None, found.groups())), 1][:4]
    deep, row = largest > 255, (width + 7) // 8 if kind == 4 else width * (3 if kind == 6 else 1)
    binary = kind > 3
    needed = found.end() + height * row * (2 if deep else 1) if binary else 0
    surplus = data.length - needed if binary else 0
    if data.first[needed:].isspace():  # a line break at the end
        surplus = 0
    return Header('colour' if kind in (3, 6) else 'grey', 16 if deep else 8, refused=CUT_OFF if surplus < 0 else '',
                  size=(height, width), surplus=surplus)


def _jp2(data: Ends) -> Header:
    at = data.first.find(b'ihdr')
    size = struct.unpack_from('>II', data.first, at + 4) if 0 < at <= len(data.first) - 12 else None
    return Header(refused='' if _END in data.last else CUT_OFF, size=size)


def has_its_checksums(data: bytes) -> bool:
    """Whether the pixels of a TIFF fit the checksums that they have; true of other formats, whose decoders look."""
    return all(tiff.whole(data, page) for page in tiff.directories(data)[:1])


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each; none where this is no WebP."""
    at = 12 if data.startswith(b'RIFF') and data[8:12] == b'WEBP' else len(data)
    while at + 8 <= len(data):
        size = struct.unpack('<I', data[at + 4:at + 8])[0]
        yield data[at:at + 4], data[at + 8:at + 8 + size]
        at += 8 + size + size % 2


def webp_images(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a WebP and of the frames in it."""
    for name, body in webp_chunks(data):
        yield name, body
        if name == b'ANMF':  # place, size and time of a frame, and its own chunks
            yield from webp_chunks(b'RIFF\0\0\0\0WEBP' + body[16:])


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
