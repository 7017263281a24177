"""A `Photo` as bytes of any format that is written, and what that format cannot hold of it."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from basicsr.photos import (
    formats,
    gif_file,
    heif_file,
    jpeg_2000_file,
    jpeg_file,
    netpbm_file,
    pillow_file,
    png_file,
    tiff_writing,
)
from basicsr.photos.formats import Format
from basicsr.photos.photo import Frame, Photo, from_float, in_bits, to_float
from basicsr.photos.profiles import Colours
from basicsr.utils.errors import UserError, counted

_WRITERS: dict[Format, Callable[[Photo, str], bytes]] = {
    formats.JPEG: jpeg_file.write,
    formats.PNG: png_file.write,
    formats.WEBP: pillow_file.write_webp,
    formats.TIFF: tiff_writing.write,
    formats.BMP: pillow_file.write_bmp,
    formats.GIF: gif_file.write,
    formats.NETPBM: netpbm_file.write,
    formats.JPEG_2000: jpeg_2000_file.write,
    formats.CODESTREAM: jpeg_2000_file.write,
    formats.AVIF: heif_file.write_avif,
    formats.HEIC: heif_file.write_heic,
}
_LARGEST = {formats.JPEG: 65535, formats.WEBP: 16383, formats.GIF: 65535, formats.AVIF: 65535, formats.HEIC: 65535}
_WORDS = {'resolution': 'the resolution', 'comment': 'the comment', 'EXIF': 'EXIF data', 'profile': 'the profile'}


def encode_photo(photo: Photo, name: str) -> bytes:
    """The file of that name, whose suffix chooses the format. Raises `UserError` where it cannot be written."""
    row = formats.of_output(name, Path(name).suffix)
    _check_size(photo, row, name)
    photo = taken(photo, row)
    return _WRITERS[row](replace(photo, frames=[_fitting(frame, row) for frame in photo.frames]), name)


def taken(photo: Photo, row: Format) -> Photo:
    """Of a photo the frames that a format takes: all, or the first."""
    fits = 'pages' in row.holds or (photo.animated and 'frames' in row.holds)
    return photo if fits or len(photo.frames) == 1 else replace(photo, frames=photo.frames[:1], animated=False)


def _fitting(frame: Frame, row: Format) -> Frame:
    """What a format holds of a frame; its colours become sRGB where there is no place for their profile."""
    pixels, alpha, meta = frame.pixels, frame.alpha, frame.meta
    if meta.icc and not _holds_profile(meta.icc, row):
        colours = Colours(meta.icc, pixels.shape[2])
        if not colours.same:
            srgb = colours.to_srgb(to_float(pixels))
            pixels = from_float(srgb.mean(axis=2, keepdims=True) if frame.grey else srgb, pixels.dtype)
        meta = replace(meta, icc=b'')
    if row.bits <= 16:
        deep = 16 if row.bits > 8 else 8
        pixels, alpha = in_bits(pixels, deep), None if alpha is None else in_bits(alpha, deep)
    return Frame(pixels, alpha if 'alpha' in row.holds else None, frame.duration, meta)


def _holds_profile(icc: bytes, row: Format) -> bool:
    """Formats without grey cannot have the profile of a grey photo, either."""
    return 'profile' in row.holds and ('grey' in row.holds or Colours(icc, 1).space != 1)


def losses(photo: Photo, name: str) -> str:
    """What a file of that name will lack, in one sentence; '' where it takes everything.

    Raises `UserError` for what cannot be written at all. Called before anything is computed.
    """
    path = Path(name)
    row = formats.of_output(name, path.suffix)
    formats.check_grey(name, path.suffix, photo.frames[0].grey)
    _check_size(photo, row, name)
    kept = taken(photo, row).frames
    parts = []
    if len(kept) < len(photo.frames):
        what = 'frame' if photo.animated else 'page'
        parts.append(f'of {counted(len(photo.frames), what)} the first is taken, {row.name} holds one')
    elif photo.animated and len(kept) > 1 and 'frames' not in row.holds:
        parts.append('its frames become pages, without their times')
    parts += _of_pixels(photo, kept, row)
    held = {key: any(frame.meta.held()[key] for frame in kept) for key in kept[0].meta.held()}
    lost = [name for name in formats.beside(held, row) if name != 'profile'] + _too_long(photo, row)
    if photo.meta.icc and not _holds_profile(photo.meta.icc, row):
        if not Colours(photo.meta.icc, photo.frames[0].pixels.shape[2]).same:
            parts.append('its colours become sRGB, as there is no place for its profile')
    if lost:
        parts.append(f'{_and([_WORDS.get(key, key) for key in lost])} cannot be kept, {row.name} has no place for it')
    return f'{path.name}: {"; ".join(parts)}' if parts else ''


def _and(words: list[str]) -> str:
    return ' and '.join(filter(None, (', '.join(words[:-1]), words[-1])))


def _of_pixels(photo: Photo, kept: list[Frame], row: Format) -> list[str]:
    parts, source = [], photo.encoding
    if any(frame.alpha is not None for frame in kept):
        if 'alpha' not in row.holds:
            parts.append(f'transparency is lost, {row.name} holds none')
        elif row is formats.GIF and photo.format != 'GIF':
            parts.append('transparency becomes full or none')
    shallow = row is formats.AVIF and not heif_file.writes_deep_avif()
    most = 8 if shallow or (len(kept) > 1 and 'frames' in row.holds) else row.bits  # animations have no more
    deep = max(frame.pixels.dtype.itemsize * 8 for frame in kept)
    bits = min(max(source.bits, 9), deep) if deep > 8 else 8
    if source.bits > deep > 16:  # of which reading has left as many as are worked on
        bits, most = source.bits, min(most, deep)
    if bits > most:
        parts.append(f'{bits} bits become {most}')
    if row is formats.GIF and photo.format != 'GIF' and not all(frame.grey and frame.alpha is None for frame in kept):
        parts.append('its colours become 256')
    if row is formats.JPEG and source.unwritten_sampling:
        parts.append(f'its subsampling {source.unwritten_sampling} becomes 4:4:4')
    return parts


def _too_long(photo: Photo, row: Format) -> list[str]:
    """What a JPEG has a place for, but not of that length."""
    meta = photo.meta
    limits = (('EXIF', meta.exif, jpeg_file.EXIF_LIMIT), ('XMP', meta.xmp, jpeg_file.XMP_LIMIT))
    return [name for name, value, limit in limits if row is formats.JPEG and len(value) > limit]


def _check_size(photo: Photo, row: Format, name: str) -> None:
    largest = _LARGEST.get(row, 0)
    for frame in photo.frames:
        height, width = frame.pixels.shape[:2]
        if largest and max(height, width) > largest:
            raise UserError(f"cannot write '{name}': {row.name} holds at most {largest} pixels a side, the photo has"
                            f' {width}x{height}; choose .png or .tif')
