"""TIFF files of photos: pixels by tifffile, and in each page's directory the tags that it has no words for."""
from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from basicsr.photos import exif, resources
from basicsr.photos.exif import Entry, Ifd
from basicsr.photos.photo import Encoding, Frame, Metadata, Photo, from_float, stacked, to_float
from basicsr.photos.tiff_file import STRUCTURE
from basicsr.utils.errors import UserError

_RESOLUTION = (282, 283, 296)
_BYTES, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 3, 4, 5, 7
# names of tifffile's schemes for those of its numbers; what is not here becomes Deflate
_COMPRESSIONS = {
    'none': None, 'lzw': 'lzw', 'packbits': 'packbits', 'zstd': 'zstd', 'jpeg': 'jpeg', 'adobe_deflate': 'zlib',
    'deflate': 'zlib', 'lzma': 'lzma'
}
_PREDICTED = ('lzw', 'zlib', 'zstd', 'lzma')
_LIMIT = (1 << 32) - 1  # bytes that places in a TIFF reach
_QUALITY = 95


def write(photo: Photo, name: str) -> bytes:
    """As another TIFF was stored, else in Deflate. Raises `UserError` for more than 4 GB."""
    import tifffile
    own = photo.encoding if photo.format == 'TIFF' else Encoding(compression='adobe_deflate')
    order = exif.byte_order(photo.meta.exif) or '<'
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=False, byteorder='>' if order == '>' else '<') as writer:
        for frame in photo.frames:
            _write_page(writer, frame, own)
    data = file.getvalue()
    if len(data) > _LIMIT:
        raise UserError(f"cannot write '{name}': a TIFF holds at most 4 GB, the photo has {len(data) / 2**30:.1f}")
    return _with_tags(data, [frame.meta for frame in photo.frames], order)


def _write_page(writer: Any, frame: Frame, own: Encoding) -> None:
    array = stacked(frame if not own.premultiplied else _multiplied(frame))
    if own.bits == 32 and own.sample == 'uint' and array.dtype == np.float32:
        array = np.rint(array.astype(np.float64).clip(0, 1) * (2**32 - 1)).astype(np.uint32)
    elif own.bits == 16 and own.sample == 'float' and array.dtype == np.float32:
        array = array.astype(np.float16)
    compression = _COMPRESSIONS.get(own.compression, 'zlib')
    options: dict[str, Any] = {}
    if compression == 'jpeg':
        if array.dtype != np.uint8 or frame.alpha is not None:
            compression = 'zlib'
        else:
            options['compressionargs'] = {'level': _QUALITY}
    if compression in _PREDICTED:
        options['predictor'] = True
    if own.tile and min(own.tile) >= 16:
        options['tile'] = own.tile
    if array.shape[2] > 1:
        options['planarconfig'] = 'separate' if own.planar else 'contig'
    if own.planar and array.shape[2] > 1:
        array = np.ascontiguousarray(array.transpose(2, 0, 1))
    elif array.shape[2] == 1:
        array = array[..., 0]
    alpha = [1 if own.premultiplied else 2] if frame.alpha is not None else None
    writer.write(array, photometric='minisblack' if frame.grey else 'rgb', extrasamples=alpha, compression=compression,
                 metadata=None, software=False, contiguous=False, **options)


def _multiplied(frame: Frame) -> Frame:
    if frame.alpha is None:
        return frame
    pixels = to_float(frame.pixels) * to_float(frame.alpha)[..., None]
    return Frame(from_float(pixels, frame.pixels.dtype), frame.alpha)


def _with_tags(data: bytes, metas: list[Metadata], order: str) -> bytes:
    """The same file with a new directory for each page at its end, which holds the tags of its metadata as well."""
    out = bytearray(data)
    pages = _directories(data, order)
    link = 4  # where the place of the next directory is to stand
    for at, meta in zip(pages, metas):
        ifd = _tags(meta,
                    order) | {tag: entry for tag, entry in exif.read_flat(data, at).items() if tag not in _RESOLUTION}
        out += bytes(len(out) % 2)
        struct.pack_into(f'{order}I', out, link, len(out))
        link = len(out) + 2 + 12 * len(ifd)
        out += exif.pack(ifd, order, len(out))
        if len(out) > _LIMIT:
            raise UserError('a TIFF holds at most 4 GB')
    return bytes(out)


def _directories(data: bytes, order: str) -> list[int]:
    """Where each page's directory stands."""
    found, at = [], struct.unpack_from(f'{order}I', data, 4)[0]
    while at:
        found.append(at)
        at = exif.following(data, order, at)[1]
    return found


def _tags(meta: Metadata, order: str) -> Ifd:
    tree = exif.read_tree(meta.exif) if exif.byte_order(meta.exif) == order else {}
    tree = {tag: entry for tag, entry in tree.items() if tag not in (STRUCTURE | {*_RESOLUTION})}
    for tag, kind, value in ((700, _BYTES, meta.xmp), (33723, _UNDEFINED, resources.iptc(meta.resources)),
                             (34377, _BYTES, meta.resources), (34675, _UNDEFINED, meta.icc)):
        if value:
            tree[tag] = Entry(kind, len(value), value)
    if meta.resolution:
        for tag, number in zip(_RESOLUTION, meta.resolution):
            tree[tag] = Entry(_RATIONAL, 1, struct.pack(f'{order}II', round(number * 10000), 10000))
        tree[296] = Entry(_SHORT, 1, struct.pack(f'{order}H', 2))
    return tree
