"""The PPM family: P1 to P6, of any depth up to 16 bits."""
from __future__ import annotations

import re

import numpy as np

from basicsr.photos.photo import Encoding, Frame, Photo, full_range, in_bits
from basicsr.photos.pillow_file import check_size
from basicsr.utils.errors import UserError

_SPACE = rb'(?:\s|#[^\n]*\n)+'
_HEADER = re.compile(rb'P([1-6])' + _SPACE + rb'(\d{1,9})' + _SPACE + rb'(\d{1,9})')
_LARGEST = re.compile(_SPACE + rb'(\d{1,9})')


def read(data: bytes, name: str) -> Photo:
    header = _HEADER.match(data)
    if header is None:
        raise UserError(f"'{name}' is damaged: it begins as a PPM file does, but says no size")
    kind, width, height = map(int, header.groups())
    check_size(name, height, width)
    bitmap, channels = kind in (1, 4), 3 if kind in (3, 6) else 1
    largest, end = 1, header.end()
    if not bitmap:
        found = _LARGEST.match(data, end)
        largest, end = (int(found[1]), found.end()) if found else (0, end)
    if not 0 < largest < 1 << 16:
        raise UserError(f"'{name}' is damaged: its largest value is {largest}, not from 1 to 65535")
    count = height * width * channels
    values = _text(data[end:], kind, count) if kind < 4 else _binary(data[end +
                                                                          1:], kind, height, width, channels, largest)
    if len(values) < count:
        raise UserError(f"'{name}' is cut off: {len(values)} of {count} values are there")
    img = values[:count].reshape(height, width, channels)
    img = 1 - img if bitmap else img  # 1 is black
    bits = largest.bit_length()
    if largest == (1 << bits) - 1:
        img = full_range(img, bits)
    else:
        wide, dtype = (255, np.uint8) if largest < 256 else (65535, np.uint16)
        img = ((img.astype(np.uint64) * wide + largest // 2) // largest).clip(0, wide).astype(dtype)
    return Photo('PPM', [Frame(img)], Encoding(bits=bits))


def _text(body: bytes, kind: int, count: int) -> np.ndarray:
    body = re.sub(rb'#[^\n]*', b' ', body)
    words = re.findall(rb'[01]', body) if kind == 1 else body.split()
    try:
        return np.array([int(word) for word in words[:count]], np.uint32)
    except ValueError:
        return np.zeros(0, np.uint32)


def _binary(body: bytes, kind: int, height: int, width: int, channels: int, largest: int) -> np.ndarray:
    if kind == 4:
        row = (width + 7) // 8
        rows = np.frombuffer(body[:row * height], np.uint8)
        return np.unpackbits(rows[:len(rows) // row * row].reshape(-1, row), axis=1)[:, :width].ravel()
    dtype = np.dtype('>u2' if largest > 255 else 'u1')
    values = np.frombuffer(body[:len(body) // dtype.itemsize * dtype.itemsize], dtype)
    return values[:height * width * channels].astype(dtype.newbyteorder('='))


def write(photo: Photo, name: str) -> bytes:
    """P5 for grey, P6 for colours; a name in .ppm is of colours."""
    frame = photo.frames[0]
    pixels = in_bits(frame.pixels, 16)
    if name.lower().endswith('.ppm') and frame.grey:
        pixels = np.repeat(pixels, 3, axis=2)
    height, width, channels = pixels.shape
    wide = pixels.dtype == np.uint16
    head = f'P{6 if channels == 3 else 5}\n{width} {height}\n{65535 if wide else 255}\n'.encode()
    return head + pixels.astype('>u2' if wide else 'u1').tobytes()
