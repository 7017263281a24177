"""Made-up pictures, and photos' files with all that a camera writes into them."""
from __future__ import annotations

import io
import struct
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image

SIZE = (48, 64)  # height, width
WORDS = {0x010F: 'Maker', 0x0110: 'Model 1', 0x0132: '2024:05:01 10:00:00'}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'
IPTC = b'\x1c\x02\x78\x00\x05hello'  # a caption


def picture(seed: int = 0, bits: int = 8, channels: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, C) of smooth colours, uint8 or uint16."""
    rng = np.random.RandomState(seed)
    small = rng.rand(4, 5, channels).astype(np.float32)
    img = cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR).reshape(*size, channels)
    return (img * (2**bits - 1)).round().astype(np.uint8 if bits == 8 else np.uint16)


def encoded(img: Any, kind: str, **options: Any) -> bytes:
    """A file by Pillow, of an array or of an image of its own."""
    file = io.BytesIO()
    if isinstance(img, np.ndarray):
        img = Image.fromarray(img[..., 0] if img.shape[-1] == 1 else img)
    img.save(file, kind, **options)
    return file.getvalue()


def tiff(img: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, img, **{'photometric': 'rgb', 'metadata': None, **options})
    return file.getvalue()


def tiff_of_few_bits(img: np.ndarray, bits: int) -> bytes:
    """Grey values (H, W) below 2^bits, several in a byte: 1, 2 or 4 bits each."""
    packed = np.packbits(np.unpackbits(img[..., None], axis=2)[..., 8 - bits:].reshape(len(img), -1), axis=1)
    file = io.BytesIO(tiff(packed, photometric='minisblack', rowsperstrip=len(img)))
    with tifffile.TiffFile(file, mode='r+') as opened_file:
        tags = opened_file.pages[0].tags
        tags['ImageWidth'].overwrite(img.shape[1])
        tags['BitsPerSample'].overwrite(bits)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def camera(orientation: int = 1, order: str = '<') -> bytes:
    """EXIF data with a maker note that refers to its own place, GPS data and a thumbnail, as cameras write them."""
    thumbnail = encoded(picture(9, size=(12, 16)), 'JPEG')

    def ifd(at: int, entries: list[tuple[int, int, int, bytes]], following: int = 0) -> bytes:
        head, behind = struct.pack(f'{order}H', len(entries)), b''
        start = at + 2 + 12 * len(entries) + 4
        for tag, kind, count, value in entries:
            if len(value) > 4:
                value, behind = struct.pack(f'{order}I', start + len(behind)), behind + value
            head += struct.pack(f'{order}HHI', tag, kind, count) + value.ljust(4, b'\0')
        return head + struct.pack(f'{order}I', following) + behind

    def number(kind: str, *values: int) -> bytes:
        return struct.pack(f'{order}{len(values)}{kind}', *values)

    words = [(tag, 2, len(text) + 1, text.encode() + b'\0') for tag, text in WORDS.items()]
    assert all(count % 2 == 0 for _, _, count, _ in words)
    note = [(0x927C, 7, 12, b'note' + number('I', 0xABCD, 77)), (0x9003, 2, 20, b'2024:05:01 09:00:00\0'),
            (0xA002, 4, 1, number('I', 64)), (0xA003, 4, 1, number('I', 48))]
    place = [(1, 2, 2, b'N\0'), (2, 5, 3, number('I', 47, 1, 22, 1, 5, 1))]

    def first(camera_at: int, gps_at: int, second: int) -> bytes:
        return ifd(
            8,
            sorted([
                *words, (0x0112, 3, 1, number('H', orientation)), (0x8769, 4, 1, number('I', camera_at)),
                (0x8825, 4, 1, number('I', gps_at))
            ]), second)

    at = 8 + len(first(0, 0, 0))
    exif = ifd(at, note)
    gps = ifd(at + len(exif), place)
    second = at + len(exif) + len(gps)
    last = [(0x0201, 4, 1, number('I', second + 30)), (0x0202, 4, 1, number('I', len(thumbnail)))]
    head = (b'II*\0' if order == '<' else b'MM\0*') + number('I', 8)
    return head + first(at, at + len(exif), second) + exif + gps + ifd(second, last) + thumbnail


def resources(*parts: tuple[int, bytes]) -> bytes:
    """Those of Photoshop."""
    return b''.join(b'8BIM' + struct.pack('>HHI', number, 0, len(body)) + body + bytes(len(body) % 2)
                    for number, body in parts)


@lru_cache  # they hold the time at which they are made
def profile(name: str = 'p3') -> bytes:
    """ICC profiles: 'srgb', 'p3', 'adobe' (a plain power), 'wide' (no colour of which sRGB has), 'grey'."""
    import imagecodecs
    white, primaries = (.3127, .3290, 1.), {
        'p3': (.680, .320, 1, .265, .690, 1, .150, .060, 1), 'adobe': (.640, .330, 1, .210, .710, 1, .150, .060, 1),
        'wide': (.7347, .2653, 1, .1596, .8404, 1, .0366, .0001, 1)
    }
    if name == 'srgb':
        return bytes(imagecodecs.cms_profile('srgb'))
    if name == 'grey':
        return bytes(imagecodecs.cms_profile('gray', gamma=1.8))
    return bytes(imagecodecs.cms_profile('rgb', whitepoint=white, primaries=primaries[name], gamma=2.2))
