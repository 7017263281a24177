"""PNG: 16 bits and all chunks, which Pillow leaves out."""
from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from basicsr.photos import named_colours, raw_profiles
from basicsr.photos import pillow_file as pillow
from basicsr.photos.photo import Frame, Metadata, Photo, in_bits, stacked

_HEADER = 33  # bytes: signature and IHDR
_OF_COLOURS = (b'cICP', b'sRGB', b'gAMA', b'cHRM')  # what says of which colours the pixels are, without a profile
_INCH = .0254  # metres


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each, as far as they are whole."""
    at = 8
    while at + 12 <= len(data):
        size = struct.unpack_from('>I', data, at)[0]
        yield data[at + 4:at + 8], data[at + 8:at + 8 + size]
        at += 12 + size


def read(data: bytes, name: str) -> Photo:
    photo = pillow.read(data, name, 'PNG', 'PNG')
    found = dict(reversed(list(chunks(data))))
    photo.encoding.bits = data[24]
    photo.encoding.chunks = tuple((key, found[key]) for key in _OF_COLOURS if key in found)
    if data[24] == 16 and not photo.animated:
        photo.frames = [pillow.with_meta(_deep(data, found.get(b'tRNS', b'')), _as_stored(data, name))]
    elif data[24] == 16:
        photo.remarks.append('is an animation of 16 bits, which is read in 8')
        photo.encoding.bits = 8
    icc, remark = named_colours.of_png(found, photo.meta.icc, photo.frames[0].grey)
    photo.frames = [replace(frame, meta=replace(frame.meta, icc=icc)) for frame in photo.frames]
    photo.remarks += [remark] if remark else []
    return photo


def _as_stored(data: bytes, name: str) -> Metadata:
    with pillow.opened(data, name, 'PNG') as image:
        image.load()  # what stands behind the pixels as well
        return pillow.metadata_of(image)


def _deep(data: bytes, clear: bytes) -> Frame:
    """16 bits; Pillow has 8. `clear`: the colour that stands for transparency."""
    import imagecodecs
    array = imagecodecs.png_decode(data)
    array = array[..., None] if array.ndim == 2 else array
    if array.shape[2] in (2, 4):
        return Frame(array[..., :-1], array[..., -1])
    if len(clear) != 2 * array.shape[2]:
        return Frame(array)
    colour = np.array(struct.unpack(f'>{array.shape[2]}H', clear), np.uint16)
    return Frame(array, np.where((array == colour).all(axis=2), 0, 65535).astype(np.uint16))


def write(photo: Photo, name: str) -> bytes:
    first = photo.frames[0]
    if len(photo.frames) > 1:
        grey = all(frame.grey for frame in photo.frames)
        images = [pillow.image_of(frame, colour=not grey) for frame in photo.frames]
        modes = {image.mode for image in images}
        mode = images[0].mode if len(modes) == 1 else 'RGBA'
        data = pillow.encoded([image.convert(mode) for image in images], 'PNG', name, **pillow.timing(photo))
    elif first.pixels.dtype == np.uint8:
        data = pillow.encoded([pillow.image_of(first)], 'PNG', name)
    else:
        import imagecodecs
        array = in_bits(stacked(first), 16)
        data = bytes(imagecodecs.png_encode(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array)))
    own = photo.encoding.chunks if photo.format == 'PNG' else ()
    return data[:_HEADER] + b''.join(_chunk(*one) for one in [*own, *_of(photo.meta)]) + data[_HEADER:]


def _of(meta: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """The chunks that hold what a photo has beside its pixels."""
    if meta.icc:
        yield b'iCCP', b'ICC profile\0\0' + zlib.compress(meta.icc)
    if meta.resolution:
        yield b'pHYs', struct.pack('>IIB', *(min(round(value / _INCH), 2**31 - 1) for value in meta.resolution), 1)
    if meta.exif:
        yield b'eXIf', meta.exif
    if meta.resources:
        yield b'tEXt', raw_profiles.encoded('iptc', meta.resources)
    if meta.xmp:
        yield b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + meta.xmp
    for key, text in meta.text:
        keyword = (key.encode('latin-1', 'replace')[:79] or b'Comment') + b'\0'
        text = text.replace('\0', ' ')
        raw = text.encode(errors='surrogateescape')
        if any('\udc80' <= letter <= '\udcff' for letter in text):  # no UTF-8; what else it is nobody says
            yield b'tEXt', keyword + raw
        elif text.isascii() or text.encode('latin-1', 'replace').decode('latin-1') == text:
            yield b'tEXt', keyword + text.encode('latin-1')
        else:
            yield b'iTXt', keyword + b'\0\0\0\0' + raw


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
