"""TIFF bytes: the tags of their pages, what OpenCV would misread in them, whether their pixels are there and whole."""
from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

Tags = dict[int, tuple[int, ...]]
_CODES = {1: 'B', 3: 'H', 4: 'I', 13: 'I', 16: 'Q'}  # of the types that are whole numbers
_REDUCED, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _ORIENTATION = 254, 256, 257, 258, 259, 262, 273, 274
_SAMPLES, _STRIP_SIZES, _PLANES, _TILES, _TILE_SIZES, _EXTRA, _FORMAT = 277, 279, 284, 324, 325, 338, 339
_DEFLATE, _JPEG, _JPEG_TABLES = (8, 32946), 7, 347


def directories(data: bytes) -> list[Tags]:
    """The numbers in each directory of the chain, in order, as far as it can be read; [] where this is no TIFF."""
    return chain(data)[0]


def chain(data: bytes) -> tuple[list[Tags], bool]:
    """`directories`, and whether these are all that the file speaks of."""
    order = {b'II': '<', b'MM': '>'}.get(data[:2])
    found: list[Tags] = []
    ended = False
    try:
        big = struct.unpack(f'{order}H', data[2:4])[0] == 43 if order else False
        many, offset, size = ('Q', 'Q', 8) if big else ('H', 'I', 4)
        at, seen = _number(data, f'{order}{offset}', 8 if big else 4), set[int]()
        while order and at and at not in seen:
            seen.add(at)
            entries, at = _number(data, order + many, at), at + struct.calcsize(order + many)
            found.append(dict(_tag(data, order, at + i * (4 + 2 * size), size) for i in range(entries)))
            at = _number(data, order + offset, at + entries * (4 + 2 * size))
        ended = True
    except (struct.error, OverflowError):  # cut off, or no directory; a place beyond all files
        pass
    return found, ended


def _number(data: bytes, code: str, at: int) -> int:
    return struct.unpack_from(code, data, at)[0]


def _tag(data: bytes, order: str, at: int, size: int) -> tuple[int, tuple[int, ...]]:
    """Number and values of the entry at `at`; no values where they are no whole numbers."""
    tag, kind = struct.unpack_from(f'{order}HH', data, at)
    count = _number(data, order + ('Q' if size == 8 else 'I'), at + 4)
    code = 'B' if tag == _JPEG_TABLES else _CODES.get(kind)
    if code is None or count > len(data):
        return tag, ()
    inside, code = at + 4 + size, f'{order}{count}{code}'
    here = inside if struct.calcsize(code) <= size else _number(data, order + ('Q' if size == 8 else 'I'), inside)
    return tag, struct.unpack_from(code, data, here)


def orientation(data: bytes) -> int:
    """The orientation of the first page, 0 where it is not said; also of EXIF data, which have this format."""
    return next((first(tags, _ORIENTATION, 0) for tags in directories(data)), 0)


def first(tags: Tags, tag: int, default: int) -> int:
    return (tags.get(tag) or (default, ))[0]


def pages(found: list[Tags]) -> int:
    """How many there are; reduced copies of another page are none."""
    return sum(not first(tags, _REDUCED, 0) & 1 for tags in found)


def shape(tags: Tags) -> tuple[int, int] | None:
    """Height and width as stored, in pixels; None where they are not said."""
    height, width = first(tags, _HEIGHT, 0), first(tags, _WIDTH, 0)
    return (height, width) if height and width else None


def bits(tags: Tags) -> int:
    """Bits per channel."""
    return first(tags, _BITS, 1)


def kind(tags: Tags) -> str:
    """Channels as stored, in the words of `Header`."""
    alpha = first(tags, _EXTRA, 0) in (1, 2)
    return ('grey' if first(tags, _PHOTOMETRIC, 2) < 2 else 'colour') + (' with alpha' if alpha else '')


def multiplied(tags: Tags) -> bool:
    """Whether OpenCV multiplies the colours by an alpha channel, as it does in 8 bits where that is still to be done."""
    return bits(tags) == 8 and first(tags, _EXTRA, 0) == 2


def misread(tags: Tags) -> str:
    """What OpenCV would read as other pixels than those stored, in words; '' for a page that it reads right."""
    if first(tags, _FORMAT, 1) != 1 or bits(tags) > 16:
        what = {1: 'uint', 2: 'int', 3: 'float'}.get(first(tags, _FORMAT, 1), 'unknown')
        return f'holds {what}{bits(tags)} values; 8-bit and 16-bit images are supported'
    if bits(tags) == 16 and first(tags, _PLANES, 1) == 2 and len(tags.get(_BITS, ())) > 1:
        return 'stores its 16-bit channels in separate planes, which cannot be read; save it with interleaved channels'
    if bits(tags) == 16 and first(tags, _PHOTOMETRIC, 2) == 0:
        return 'stores white as 0 in 16 bits, which cannot be read; save it with black as 0'
    return ''


def complete(tags: Tags, length: int) -> bool:
    """Whether a file of so many bytes holds all pixels of a page."""
    height, width = shape(tags) or (0, 0)
    # of one strip that is not compressed the length may be wrong; nobody needs it
    known = first(tags, _COMPRESSION, 1) == 1 and _TILES not in tags
    most = height * ((width * first(tags, _SAMPLES, 1) * bits(tags) + 7) // 8) if known else length
    return all(start + min(size, most) <= length for start, size in _parts(tags))


def whole(data: bytes, tags: Tags) -> bool:
    """Whether the compressed pixels of a page fit their checksums. Only Deflate has them; decoders may stop before."""
    if first(tags, _COMPRESSION, 1) not in _DEFLATE:
        return True
    try:
        for start, size in _parts(tags):
            zlib.decompress(data[start:start + size])
    except zlib.error:
        return False
    return True


def jpegs(data: bytes, tags: Tags) -> Iterator[bytes]:
    """The strips or tiles of a page that are compressed so, each as a file of its own."""
    if first(tags, _COMPRESSION, 1) != _JPEG:
        return
    tables = bytes(tags.get(_JPEG_TABLES, ()))
    for start, size in _parts(tags):
        strip = data[start:start + size]
        yield tables[:-2] + strip[2:] if tables else strip  # without the marks of end and beginning


def _parts(tags: Tags) -> Iterator[tuple[int, int]]:
    """Where the strips or tiles of a page begin, and how long they are, in bytes."""
    return zip(*(tags.get(one) or tags.get(other, ())
                 for one, other in ((_STRIPS, _TILES), (_STRIP_SIZES, _TILE_SIZES))))
