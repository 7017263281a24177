"""JPEG 2000: pixels by OpenJPEG, what stands beside them in boxes around the codestream."""
from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from basicsr.photos import exif, formats
from basicsr.photos import pillow_file as pillow
from basicsr.photos.boxes import box, boxes
from basicsr.photos.photo import Encoding, Frame, Metadata, Photo, full_range, in_bits, stacked
from basicsr.utils.errors import UserError

_CODESTREAM = b'\xff\x4f\xff\x51'
_XMP = bytes.fromhex('be7acfcb97a942e89c71999491e3afac')
_EXIF = b'JpgTiffExif->JP2'
_PROFILES = (b'\2', b'\3')  # kinds of colours that are profiles
_SRGB, _GREY = 16, 17  # numbers of colours that are not
_LOSSY = 45  # dB to the picture, for files that were lossy before


def read(data: bytes, name: str) -> Photo:
    import imagecodecs
    start = data.find(_CODESTREAM)
    if start < 0 or start + 42 > len(data):
        raise UserError(f"'{name}' is damaged: it holds no JPEG 2000 codestream")
    bits = (data[start + 42] & 0x7f) + 1
    photo = pillow.read(data, name, 'JPEG 2000', 'JPEG2000')
    if bits > 8:
        array = imagecodecs.jpeg2k_decode(_without_profile(data, struct.unpack_from('>H', data, start + 40)[0]))
        array = full_range(array[..., None] if array.ndim == 2 else array, min(bits, 16))
        photo.frames = [Frame(array[..., :-1], array[..., -1]) if array.shape[2] in (2, 4) else Frame(array)]
    photo.frames = [pillow.with_meta(photo.frames[0], _metadata(data))]
    photo.encoding = Encoding(bits=bits, lossless=_is_reversible(data[start:]))
    return photo


def _without_profile(data: bytes, channels: int) -> bytes:
    """For a decoder that would turn the pixels by their profile, which is done to a photo later."""
    if data.startswith(_CODESTREAM):
        return data
    named = b'\1\0\0' + struct.pack('>I', _GREY if channels < 3 else _SRGB)
    return _with_colours(data, lambda old: named if old[:1] in _PROFILES else old)


def _metadata(data: bytes) -> Metadata:
    packet = camera = icc = b''
    for kind, body in boxes(data):
        if kind == b'uuid' and body.startswith(_XMP):
            packet = body[len(_XMP):]
        elif kind == b'uuid' and body.startswith(_EXIF):
            camera = exif.unmarked(body[len(_EXIF):])
        elif kind == b'jp2h':
            icc = next((part[3:] for inner, part in boxes(body) if inner == b'colr' and part[:1] in _PROFILES), icc)
    return Metadata(exif=camera, xmp=packet, icc=icc)


def _is_reversible(codestream: bytes) -> bool:
    """What the coding style (COD) says: 1 for the wavelets that lose nothing."""
    at = codestream.find(b'\xff\x52')
    return codestream[at + 13:at + 14] == b'\1'


def write(photo: Photo, name: str) -> bytes:
    import imagecodecs
    frame = photo.frames[0]
    array = in_bits(stacked(frame), 16)
    bits = array.dtype.itemsize * 8
    if photo.format == 'JPEG 2000' and 8 < photo.encoding.bits < bits:
        bits = photo.encoding.bits
        array = np.rint(array * np.float32((2**bits - 1) / 65535)).astype(np.uint16)
    array = np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array)
    lossy = photo.format == 'JPEG 2000' and not photo.encoding.lossless
    bare = Path(name).suffix.lower() in formats.CODESTREAM.suffixes
    try:
        data = bytes(
            imagecodecs.jpeg2k_encode(array, level=_LOSSY if lossy else 0, reversible=not lossy, bitspersample=bits,
                                      codecformat='j2k' if bare else 'jp2'))
    except imagecodecs.Jpeg2kError as error:
        raise UserError(f"cannot write '{name}': the encoder says: {error}") from error
    return data if bare else _with(data, frame.meta)


def _with(data: bytes, meta: Metadata) -> bytes:
    """A file with boxes for all that a photo has beside its pixels."""
    if meta.icc:
        data = _with_colours(data, lambda _: b'\2\0\0' + meta.icc)
    out = []
    for kind, body in boxes(data):
        if kind == b'jp2c':
            out += [box(b'uuid', mark + said) for mark, said in ((_EXIF, meta.exif), (_XMP, meta.xmp)) if said]
        out.append(box(kind, body))
    return b''.join(out)


def _with_colours(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A file whose words on its colours are changed."""

    def header(body: bytes) -> bytes:
        return b''.join(box(kind, change(part) if kind == b'colr' else part) for kind, part in boxes(body))

    return b''.join(box(kind, header(body) if kind == b'jp2h' else body) for kind, body in boxes(data))
