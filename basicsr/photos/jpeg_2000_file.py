"""JPEG 2000: pixels by OpenJPEG, what stands beside them in boxes around the codestream."""
from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from basicsr.photos import exif, formats
from basicsr.photos import pillow_file as pillow
from basicsr.photos.photo import Encoding, Frame, Metadata, Photo, full_range, in_bits, stacked
from basicsr.utils.errors import UserError

_CODESTREAM = b'\xff\x4f\xff\x51'
_XMP = bytes.fromhex('be7acfcb97a942e89c71999491e3afac')
_EXIF = b'JpgTiffExif->JP2'
_LOSSY = 45  # dB to the picture, for files that were lossy before


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each; none of a codestream alone."""
    at = 0
    while at + 8 <= len(data) and not data.startswith(_CODESTREAM):
        size, kind = struct.unpack_from('>I4s', data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            size, head = struct.unpack_from('>Q', data, at + 8)[0], 16
        size = size or len(data) - at
        if size < head:
            return
        yield kind, data[at + head:at + size]
        at += size


def read(data: bytes, name: str) -> Photo:
    import imagecodecs
    start = data.find(_CODESTREAM)
    if start < 0 or start + 42 > len(data):
        raise UserError(f"'{name}' is damaged: it holds no JPEG 2000 codestream")
    bits = (data[start + 42] & 0x7f) + 1
    photo = pillow.read(data, name, 'JPEG 2000', 'JPEG2000')
    if bits > 8:
        array = imagecodecs.jpeg2k_decode(data)
        array = full_range(array[..., None] if array.ndim == 2 else array, min(bits, 16))
        photo.frames = [Frame(array[..., :-1], array[..., -1]) if array.shape[2] in (2, 4) else Frame(array)]
    photo.frames = [pillow.with_meta(photo.frames[0], _metadata(data))]
    photo.encoding = Encoding(bits=bits, lossless=_is_reversible(data[start:]))
    return photo


def _metadata(data: bytes) -> Metadata:
    packet = camera = icc = b''
    for kind, body in boxes(data):
        if kind == b'uuid' and body.startswith(_XMP):
            packet = body[len(_XMP):]
        elif kind == b'uuid' and body.startswith(_EXIF):
            camera = exif.unmarked(body[len(_EXIF):])
        elif kind == b'jp2h':
            icc = next((part[3:] for inner, part in boxes(body) if inner == b'colr' and part[:1] in (b'\2', b'\3')),
                       icc)
    return Metadata(exif=camera, xmp=packet, icc=icc)


def _is_reversible(codestream: bytes) -> bool:
    """What the coding style (COD) says: 1 for the wavelets that lose nothing."""
    at = codestream.find(b'\xff\x52')
    return codestream[at + 13:at + 14] == b'\1'


def write(photo: Photo, name: str) -> bytes:
    import imagecodecs
    frame = photo.frames[0]
    array = in_bits(stacked(frame), 16)
    array = np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array)
    lossy = photo.format == 'JPEG 2000' and not photo.encoding.lossless
    bare = Path(name).suffix.lower() in formats.CODESTREAM.suffixes
    try:
        data = bytes(
            imagecodecs.jpeg2k_encode(array, level=_LOSSY if lossy else 0, reversible=not lossy,
                                      codecformat='j2k' if bare else 'jp2'))
    except imagecodecs.Jpeg2kError as error:
        raise UserError(f"cannot write '{name}': the encoder says: {error}") from error
    return data if bare else _with(data, frame.meta)


def _with(data: bytes, meta: Metadata) -> bytes:
    """A file with boxes for all that a photo has beside its pixels."""
    out = []
    for kind, body in boxes(data):
        if kind == b'jp2h' and meta.icc:
            body = b''.join(
                _box(inner, b'\2\0\0' + meta.icc if inner == b'colr' else part) for inner, part in boxes(body))
        if kind == b'jp2c':
            out += [_box(b'uuid', mark + said) for mark, said in ((_EXIF, meta.exif), (_XMP, meta.xmp)) if said]
        out.append(_box(kind, body))
    return b''.join(out)


def _box(kind: bytes, body: bytes) -> bytes:
    if len(body) + 8 < 1 << 32:
        return struct.pack('>I4s', len(body) + 8, kind) + body
    return struct.pack('>I4sQ', 1, kind, len(body) + 16) + body
