"""EXIF data, which have the structure of a TIFF file: changed where they are, or taken apart and built anew."""
from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8,
          18: 8}  # by type
_ORIENTATION, _EXIF, _GPS, _INTEROPERABILITY, _SUB_IFDS, _PHOTOMETRIC = 274, 34665, 34853, 40965, 330, 262
_TREE: dict[int, Any] = {_EXIF: {_INTEROPERABILITY: {}}, _GPS: {}}  # the directories within directories
_WIDTHS, _HEIGHTS = (256, 40962), (257, 40963)  # of the image, and of the EXIF data
_OF_THE_FILE = {254, 282, 283, 296, 305, 531, _ORIENTATION, _EXIF, *_WIDTHS, *_HEIGHTS}
_OF_THE_VERSION = {36864, 37121, 40960, 40961}  # what writers put there of themselves
_MARKER = b'Exif\0\0'


class Entry(NamedTuple):
    """A tag's type, its number of values, and these as bytes in the order of the file, or another `Ifd`."""
    kind: int
    values: int
    content: Any


Ifd = dict[int, Entry]


def byte_order(data: bytes) -> str:
    """'<' or '>', as `struct` has it; '' where this is no TIFF structure."""
    return {b'II*\0': '<', b'MM\0*': '>', b'II+\0': '<', b'MM\0+': '>'}.get(bytes(data[:4]), '')


def unmarked(data: bytes) -> bytes:
    """EXIF data without the marker that some formats put in front; b'' where this is none."""
    data = data.removeprefix(_MARKER)
    return data if byte_order(data) else b''


def _start(data: bytes, order: str) -> int:
    return struct.unpack_from(order + ('Q' if is_big(data) else 'I'), data, 8 if is_big(data) else 4)[0]


def is_big(data: bytes | bytearray) -> bool:
    """Whether places are of 64 bits, as in BigTIFF."""
    return b'+' in data[:4]


def _entries(data: bytes | bytearray, order: str, at: int) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, number and the place of the values of each entry that lies within the data."""
    count, length, size = ('Q', 20, 8) if is_big(data) else ('H', 12, 4)
    try:
        entries = struct.unpack_from(order + count, data, at)[0]
        at += struct.calcsize(order + count)
        for here in range(at, at + min(entries, 4096) * length, length):
            tag, kind, number = struct.unpack_from(f"{order}HH{'Q' if size == 8 else 'I'}", data, here)
            inside = here + 4 + size
            needed = _SIZES.get(kind, 0) * number
            if needed > size:
                inside = struct.unpack_from(order + ('Q' if size == 8 else 'I'), data, inside)[0]
            if needed and inside + needed <= len(data):
                yield tag, kind, number, inside
    except struct.error:  # cut off
        return


def following(data: bytes | bytearray, order: str, at: int) -> tuple[int, int]:
    """Where a directory says where the next one is, and what it says; (0, 0) where the data end before."""
    try:
        place = at + 2 + 12 * struct.unpack_from(f'{order}H', data, at)[0]
        return place, struct.unpack_from(f'{order}I', data, place)[0]
    except struct.error:
        return 0, 0


def _numbers(data: bytes | bytearray, order: str, kind: int, count: int, place: int) -> tuple[int, ...]:
    code = {3: 'H', 4: 'I', 13: 'I', 16: 'Q'}.get(kind)
    return struct.unpack_from(f'{order}{count}{code}', data, place) if code else ()


def renewed(data: bytes, height: int, width: int) -> bytes:
    """The same for upright pixels of another size and look. Changed in place: what cameras note refers to places.

    The thumbnail goes: it shows the picture as it was.
    """
    order = byte_order(data)
    if not order or is_big(data):
        return data
    new, first = bytearray(data), _start(data, order)
    places = [
        first, *(_numbers(data, order, kind, count, place)[0]
                 for tag, kind, count, place in _entries(data, order, first) if tag == _EXIF and kind in (4, 13))
    ]
    for at in places:
        for tag, kind, count, place in _entries(data, order, at):
            value = 1 if tag == _ORIENTATION else height if tag in _HEIGHTS else width if tag in _WIDTHS else 0
            if value and count == 1 and kind in (3, 4) and (kind == 4 or value < 1 << 16):
                struct.pack_into(order + ('H' if kind == 3 else 'I'), new, place, value)
    return bytes(_without_thumbnail(new, order, first))


def _without_thumbnail(data: bytearray, order: str, first: int) -> bytearray:
    place, second = following(data, order, first)
    if not second:
        return data
    struct.pack_into(f'{order}I', data, place, 0)
    found = {tag: _numbers(data, order, kind, count, at) for tag, kind, count, at in _entries(data, order, second)}
    end = len(data)
    for starts, sizes in ((513, 514), (273, 279)):  # of a JPEG, of strips
        for start, size in zip(found.get(starts, ()), found.get(sizes, ())):
            data[start:start + size] = bytes(len(data[start:start + size]))
            if start and start + size >= len(data) - 4:
                end = min(end, start)
    return data[:end]


def read_tree(data: bytes, at: int | None = None) -> Ifd:
    """The first directory, or that at `at`, with those of EXIF and GPS inside it; {} where there is none."""
    order = byte_order(data)
    if not order:
        return {}
    return _read(data, order, _start(data, order) if at is None else at, _TREE)


def _read(data: bytes, order: str, at: int, inside: dict[int, Any]) -> Ifd:
    found: Ifd = {}
    for tag, kind, count, place in _entries(data, order, at):
        if tag in inside:
            numbers = _numbers(data, order, kind, count, place)
            below = _read(data, order, numbers[0], inside[tag]) if numbers else {}
            if below:
                found.setdefault(tag, Entry(4, 1, below))
        else:
            found.setdefault(tag, Entry(kind, count,
                                        bytes(data[place:place + _SIZES[kind] * count])))  # the first counts
    return found


def read_flat(data: bytes, at: int) -> Ifd:
    """The directory at `at`; what it says of places stays a number."""
    return _read(data, byte_order(data), at, {})


def build(ifd: Ifd, order: str) -> bytes:
    """A TIFF structure with that directory alone; b'' for an empty one."""
    head = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(f'{order}I', 8)
    return head + pack(ifd, order, 8) if ifd else b''


def pack(ifd: Ifd, order: str, at: int, following: int = 0) -> bytes:
    """A directory as bytes that will stand at `at`, its values and the directories in it behind it."""
    entries, behind = [struct.pack(f'{order}H', len(ifd))], b''
    start = at + 2 + 12 * len(ifd) + 4
    for tag, (kind, count, value) in sorted(ifd.items()):
        if isinstance(value, dict):
            here = start + len(behind)
            behind += pack(value, order, here)
            value = struct.pack(f'{order}I', here)
        elif len(value) > 4:
            here = start + len(behind)
            behind += value + bytes(len(value) % 2)  # directories and values begin at even places
            value = struct.pack(f'{order}I', here)
        entries.append(struct.pack(f'{order}HHI', tag, kind, count) + value.ljust(4, b'\0'))
    return b''.join(entries) + struct.pack(f'{order}I', following) + behind


def says_something(data: bytes) -> bool:
    """Whether EXIF data say more than how the file itself is made."""
    tree = read_tree(data)
    inside: Ifd = tree[_EXIF].content if _EXIF in tree else {}
    return bool(tree.keys() - _OF_THE_FILE) or bool(inside.keys() - _OF_THE_FILE - _OF_THE_VERSION)


def photometrics(data: bytes) -> Iterator[int]:
    """What the first directory of a TIFF and those below it say of how their pixels are to be understood."""
    order = byte_order(data)
    for tag, kind, count, place in _entries(data, order, _start(data, order)) if len(data) > 16 else ():
        if tag == _PHOTOMETRIC:
            yield from _numbers(data, order, kind, count, place)
        elif tag == _SUB_IFDS:
            for below in _numbers(data, order, kind, count, place):
                for tag, kind, count, at in _entries(data, order, below):
                    if tag == _PHOTOMETRIC:
                        yield from _numbers(data, order, kind, count, at)
