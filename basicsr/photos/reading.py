"""A photo's file as a `Photo`: what its bytes are decides, not its name."""
from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from basicsr.photos import (
    damage,
    formats,
    heif_file,
    jpeg_2000_file,
    jpeg_file,
    netpbm_file,
    pillow_file,
    png_file,
    raw_file,
    tiff_file,
)
from basicsr.photos.photo import Photo
from basicsr.utils.errors import UserError
from basicsr.utils.files import read_bytes

_READERS: dict[formats.Format, Callable[[bytes, str], Photo]] = {
    formats.JPEG: jpeg_file.read,
    formats.PNG: png_file.read,
    formats.WEBP: lambda data, name: pillow_file.read(data, name, 'WebP', 'WEBP'),
    formats.TIFF: tiff_file.read,
    formats.BMP: lambda data, name: pillow_file.read(data, name, 'BMP', 'BMP', 'DIB'),
    formats.GIF: lambda data, name: pillow_file.read(data, name, 'GIF', 'GIF'),
    formats.NETPBM: netpbm_file.read,
    formats.JPEG_2000: jpeg_2000_file.read,
    formats.CODESTREAM: jpeg_2000_file.read,
    formats.AVIF: heif_file.read_avif,
    formats.HEIC: heif_file.read_heic,
    formats.RAW: raw_file.read,
}

_RAW_DAMAGE = re.compile('[Cc]orrupt data|data corrupted|Unexpected end of file')  # LibRaw develops what is left
# what decoders raise for damaged files
_FAILURES = (OSError, SyntaxError, ValueError, LookupError, ArithmeticError, TypeError, EOFError, RuntimeError,
             struct.error, zlib.error)


def read_photo(path: str | Path) -> Photo:
    """`decode_photo` of a file. Raises `OSError` that names it as well."""
    return decode_photo(read_bytes(path), str(path))


def decode_photo(data: bytes, name: str) -> Photo:
    """Bytes of a photo's file to its frames and all that it holds; `name`: what messages call it.

    What is doubtful is a `note`. Raises `UserError` for bytes that are no photo, are not whole, or need an extra.
    """
    from basicsr.utils.decoder import listening
    row = format_of(data, name)
    formats.needs(row, name)
    damage.check(data, row, name)
    try:
        with listening() as heard:
            photo = _READERS[row](data, name)
    except _FAILURES as error:
        said = str(error).strip().partition('\n')[0]
        raise UserError(
            f"'{name}' cannot be decoded, it is damaged or of an unknown kind of {row.name}: {said}") from error
    if row is formats.RAW and (damaged := _RAW_DAMAGE.search(''.join(heard))):
        raise UserError(f"'{name}' is damaged inside: {damaged[0]}")
    for frame in photo.frames:
        if frame.pixels.dtype == np.float32 and not np.isfinite(frame.pixels).all():
            raise UserError(f"'{name}' holds values that are not finite (NaN or infinity)")
    first = photo.frames[0].pixels
    damage.check_zeros(data, row, first.shape[0] * first.shape[1], name)
    return photo


def format_of(data: bytes, name: str) -> formats.Format:
    """Which format these bytes are of; their beginning is enough. Raises `UserError` where they are of none."""
    if not data:
        raise UserError(f"'{name}' is empty")
    row = formats.by_content(data)
    said = formats.by_suffix(Path(name).suffix)
    if said is formats.RAW and row in (None, formats.TIFF):
        return formats.RAW  # cameras' files have few marks in common; LibRaw looks itself
    if row is None:
        raise UserError(f"'{name}' is not an image that can be read (damaged, or not an image file)")
    return row
