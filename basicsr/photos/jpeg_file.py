"""JPEG: read with all of its segments, written with the tables and the subsampling of the one that was read."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from basicsr.photos import pillow_file as pillow
from basicsr.photos import profiles, xmp
from basicsr.photos.photo import COMMENT, Encoding, Frame, Metadata, Photo

_SEGMENT = 65533  # bytes, the most that one holds
_PHOTOSHOP = b'Photoshop 3.0\0'
_NUMBERS = {(1, 1): 0, (2, 1): 1, (2, 2): 2}  # those of Pillow: 4:4:4, 4:2:2, 4:2:0
_NAMES = {(1, 2): '4:4:0', (4, 1): '4:1:1', (4, 2): '4:1:0'}
EXIF_LIMIT, XMP_LIMIT = _SEGMENT - 6, _SEGMENT - 29


def read(data: bytes, name: str) -> Photo:
    with pillow.opened(data, name, 'JPEG', 'MPO') as image:
        image.load()
        if image.mode == 'CMYK':
            pixels, alpha = np.array(image), None
        else:
            pixels, alpha = pillow.pixels_of(image)
        meta = _metadata(image)
        sampling, unwritten = _sampling(image)
        encoding = Encoding(tables=dict(image.quantization), sampling=sampling, unwritten_sampling=unwritten,
                            progressive=bool(image.info.get('progressive')))
        remarks = _further_images(image, meta.xmp)
    if pixels.shape[2] == 4:
        pixels, meta, remark = profiles.without_inks(pixels, meta)
        remarks.append(remark)
    frame = pillow.with_meta(Frame(pixels, alpha), meta)
    return Photo('JPEG', [frame], encoding, remarks=remarks)


def _metadata(image: Any) -> Metadata:
    meta = pillow.metadata_of(image)
    parts = b''.join(
        body.removeprefix(_PHOTOSHOP) for kind, body in image.applist
        if kind == 'APP13' and body.startswith(_PHOTOSHOP))
    comments = (body.decode(errors='surrogateescape') for kind, body in image.applist if kind == 'COM')
    return replace(meta, resources=parts, text=tuple((COMMENT, words) for words in comments))


def _sampling(image: Any) -> tuple[int, str]:
    """Pillow's number of the subsampling, or -1 and its name where Pillow cannot write it; -1 and '' of grey and of inks.

    By how much finer light is than both colours, across and down; files may say the same by other numbers than Pillow's.
    """
    if image.layers != 3:
        return -1, ''
    light, *colours = (layer[1:3] for layer in image.layer)
    finer = {(light[0] / across, light[1] / down) for across, down in colours}
    ratio = finer.pop() if len(finer) == 1 else (0, 0)
    return (_NUMBERS[ratio], '') if ratio in _NUMBERS else (-1, _NAMES.get(ratio, 'of an unusual kind'))


def _further_images(image: Any, packet: bytes) -> list[str]:
    count = getattr(image, 'n_frames', 1) - 1
    if xmp.has_gain_map(packet):
        return ['has a gain map for bright screens, which is lost']
    return [f'has {count} more behind the photo (previews, the other eye or a light map), lost'] if count > 0 else []


def write(photo: Photo, name: str) -> bytes:
    meta, source = photo.meta, photo.encoding
    options: dict[str, Any] = {'quality': 95, 'subsampling': 0}
    image = pillow.image_of(photo.frames[0], alpha=False)
    if photo.format == 'JPEG' and source.tables:
        # Pillow takes no tables by a quality; for a subsampling that it cannot write all colours are kept
        count = 1 if image.mode == 'L' else len(source.tables)
        options = {
            'qtables': [table for _, table in sorted(source.tables.items())][:count],
            'subsampling': max(source.sampling, 0), 'progressive': source.progressive
        }
    options |= {key: value for key, value in (('icc_profile', meta.icc), ('dpi', _density(meta))) if value}
    if meta.exif and len(meta.exif) <= EXIF_LIMIT:
        options['exif'] = b'Exif\0\0' + meta.exif
    if meta.xmp and len(meta.xmp) <= XMP_LIMIT:
        options['xmp'] = meta.xmp
    more = _segments(b'\xed', _PHOTOSHOP, meta.resources)
    more += b''.join(_segments(b'\xfe', b'', comment) for comment in meta.comments)
    return pillow.encoded([image], 'JPEG', name, optimize=True, extra=more, **options)


def _density(meta: Metadata) -> tuple[int, int] | None:
    """Whole numbers are all that the file's own field holds."""
    if meta.resolution is None:
        return None
    x, y = (min(max(round(value), 1), 65535) for value in meta.resolution)
    return x, y


def _segments(marker: bytes, title: bytes, data: bytes) -> bytes:
    """Data in as many segments as they need, each with its title."""
    step = _SEGMENT - len(title)
    parts = (title + data[at:at + step] for at in range(0, len(data), step))
    return b''.join(b'\xff' + marker + (len(part) + 2).to_bytes(2, 'big') + part for part in parts)
