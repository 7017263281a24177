"""TIFF: pages of any layout, depth and colours, each with its own metadata."""
from __future__ import annotations

import io
import logging
from dataclasses import replace
from typing import Any

import numpy as np

from basicsr.photos import exif, profiles, resources, ycbcr
from basicsr.photos import pillow_file as pillow
from basicsr.photos.photo import Encoding, Frame, Metadata, Photo, full_range, odd_white, upright
from basicsr.utils.errors import UserError
from basicsr.utils.notes import note

# tags that say how pixels are stored, which a new file says of itself, and those that hold other pictures
STRUCTURE = {
    *range(254, 267), 273, 274, *range(277, 282), 284, *range(288, 294), 301, 317, 318, 319, 320, 321, *range(322, 326),
    330, 332, 338, 339, 340, 341, 342, 347, *range(512, 522), *range(529, 533), 559, 37724, 50838, 50839,
    *range(50706, 51200)
}
_DESCRIPTION, _OF_PROGRAMS = 270, (b'{"shape"', b'ImageJ=')  # of how pixels are laid out, not of the photo
_XMP, _IPTC, _PHOTOSHOP, _ICC = 700, 33723, 34377, 34675
_OF_THEIR_OWN = {_XMP, _IPTC, _PHOTOSHOP, _ICC}
_REDUCED, _MASK = 1, 4  # kinds of pages that are no pictures
_WHITE_IS_0, _PALETTE, _INKS, _YCBCR, _LAB, _ICC_LAB = 0, 3, 5, 6, 8, 9
_PREMULTIPLIED, _CLEAR = 1, (1, 2)
_OF_EIGHT_BITS = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA')  # modes of Pillow that lose nothing
_LAB_REMARK = 'is of Lab colours and becomes RGB'
_DEPTHS = {16: 16, 64: 64}  # of floating values; those of other depths become 32 bits, of which they are a part
_INCHES = {3: 2.54}  # a centimetre's number to an inch's

_Pixels = tuple[np.ndarray, np.ndarray | None, Metadata, list[str]]  # colours, alpha, what stands beside, remarks


def read(data: bytes, name: str) -> Photo:
    import tifffile
    logging.getLogger('tifffile').addHandler(logging.NullHandler())  # what it doubts is found, or of no pixel
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return _read(data, file, name)
    except tifffile.TiffFileError as error:  # no ValueError up to 2025.5
        raise ValueError(*error.args) from error


def _read(data: bytes, file: Any, name: str) -> Photo:
    pages = [page for page in map(_whole, file.pages) if not page.subfiletype & (_REDUCED | _MASK)]
    for page in pages:
        pillow.check_size(name, page.imagelength * page.imagedepth, page.imagewidth)
    read_pages = [_read_page(data, page, name) for page in pages]
    if not read_pages:
        raise UserError(f"'{name}' is damaged: it holds no picture")
    if odd := next(filter(None, (odd_white(frame.pixels) for frame, _ in read_pages)), ''):
        note(f"'{name}': {odd}")
    remarks = list(dict.fromkeys(remark for _, found in read_pages for remark in found))
    return Photo('TIFF', [frame for frame, _ in read_pages], _encoding(pages[0]), remarks=remarks)


def _whole(page: Any) -> Any:
    """A page, of which tifffile may have read the half as its neighbours look the same."""
    return page.aspage() if hasattr(page, 'aspage') else page


def _encoding(page: Any) -> Encoding:
    floating = page.sampleformat == 3
    return Encoding(bits=_DEPTHS.get(_bits(page), 32) if floating else page.bitspersample,
                    compression=getattr(page.compression, 'name', '').lower(), planar=page.planarconfig == 2
                    and page.samplesperpixel > 1, tile=(page.tilelength, page.tilewidth) if page.is_tiled else None,
                    premultiplied=tuple(page.extrasamples)[:1] == (_PREMULTIPLIED, ),
                    sample='float' if floating else 'uint')


def _read_page(data: bytes, page: Any, name: str) -> tuple[Frame, list[str]]:
    import tifffile
    meta = _metadata(data, page)
    try:
        array = page.asarray()
    except (ValueError, RuntimeError, NotImplementedError, TypeError, tifffile.TiffFileError) as error:
        img, alpha, meta, remarks = _by_pillow(data, page, name, meta, error)
    else:
        img, alpha, meta, remarks = _of_channels(_as_picture(array, page, name), page, meta, name)
    turned = int(page.tags.valueof(274, default=1) or 1)
    img = np.ascontiguousarray(upright(img, turned))
    alpha = None if alpha is None else np.ascontiguousarray(upright(alpha, turned))
    return Frame(img, alpha, meta=meta.of_new_pixels(img, turned > 1)), remarks


def _as_picture(array: np.ndarray, page: Any, name: str) -> np.ndarray:
    """(H, W, S) as stored."""
    if page.imagedepth > 1 or array.ndim > 3:
        raise UserError(f"'{name}' holds a volume, not a picture")
    if array.ndim == 2:
        return array[..., None]
    return array.transpose(1, 2, 0) if page.planarconfig == 2 and page.samplesperpixel > 1 else array


def _of_channels(array: np.ndarray, page: Any, meta: Metadata, name: str) -> _Pixels:
    """Channels as stored, (H, W, S), as a frame has them."""
    remarks = []
    kind, colours = page.photometric, {_PALETTE: 1, _INKS: 4}.get(page.photometric, 1 if page.photometric < 2 else 3)
    extra = tuple(page.extrasamples)
    alpha = array[..., colours] if array.shape[2] > colours and extra and extra[0] in _CLEAR else None
    if array.shape[2] > colours + (alpha is not None):
        remarks.append(f'has {array.shape[2] - colours - (alpha is not None)} further channels, which are lost')
    if array.shape[2] < colours:
        raise UserError(f"'{name}' is damaged: it has {array.shape[2]} channels, and says that they are colours")
    img = array[..., :colours]
    if kind in (_LAB, _ICC_LAB):
        img, alpha, meta = _lab(img, kind, name), None, replace(meta, icc=b'')
        remarks.append(_LAB_REMARK)
    elif kind == _PALETTE:
        img = np.take(page.colormap, img[..., 0].astype(np.intp), axis=1).transpose(1, 2, 0)
        img = (img >> 8).astype(np.uint8) if not (img & 255).any() or (img % 257 == 0).all() else img
    elif kind == _YCBCR and not ycbcr.is_rgb(page):
        if not ycbcr.is_known(page):
            raise UserError(f"'{name}' holds YCbCr colours as {_stored(page)}, which cannot be read; save it as RGB")
        img = ycbcr.to_rgb(img, _bits(page), page.tags.valueof(529), page.tags.valueof(532))
    else:
        img = _in_full_range(img, page, name)
        img = _opposite(img) if kind == _WHITE_IS_0 else img
    if alpha is not None:
        alpha = _in_full_range(alpha, page, name)
        img = _divided(img, alpha) if extra[0] == _PREMULTIPLIED else img
    if kind == _INKS:
        if img.dtype == np.float32:
            raise UserError(f"'{name}' holds inks (CMYK) as float values, which cannot be read; save it in 16 bits")
        img, meta, remark = profiles.without_inks(img, meta)
        remarks.append(remark)
    return img, alpha, meta, remarks


def _by_pillow(data: bytes, page: Any, name: str, meta: Metadata, error: Exception) -> _Pixels:
    """What libtiff alone knows: fax, colours of half the resolution. Raises `error` where it does not, either.

    Pillow gives what pixels mean, not as what they are stored: white is white, and no alpha is left in the colours.
    """
    try:
        with pillow.opened_by_libtiff(data, name, page.index) as image:
            if image.mode == 'CMYK':
                img, meta, remark = profiles.without_inks(np.array(image), meta)
                return img, None, meta, [remark]
            if image.mode == 'LAB':
                return _lab(np.array(image), _LAB, name), None, replace(meta, icc=b''), [_LAB_REMARK]
            if image.mode not in _OF_EIGHT_BITS:
                raise error
            return *pillow.pixels_of(image), meta, []
    except (OSError, ValueError, SyntaxError, RuntimeError):
        raise error from None


def _in_full_range(img: np.ndarray, page: Any, name: str) -> np.ndarray:
    """Stored values as uint8, uint16 or float32."""
    if img.dtype.kind == 'f':
        if not np.isfinite(img).all():
            raise UserError(f"'{name}' holds values that are not finite (NaN or infinity)")
        with np.errstate(over='ignore'):  # what is too large for 32 bits is not finite, which is told
            return img.astype(np.float32)
    if img.dtype == bool:
        return img.astype(np.uint8) * np.uint8(255)
    if img.dtype.kind != 'u':
        raise UserError(f"'{name}' holds {img.dtype} values; a photo's are unsigned or float")
    return full_range(img, _bits(page))


def _bits(page: Any) -> int:
    return page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)


def _stored(page: Any) -> str:
    """How, in words: 'float32', 'JPEG2000'."""
    whole = page.dtype is not None and page.dtype.kind == 'u' and page.dtype.itemsize <= 2
    return getattr(page.compression, 'name', str(page.compression)) if whole else str(page.dtype)


def _opposite(img: np.ndarray) -> np.ndarray:
    return (1 if img.dtype == np.float32 else np.iinfo(img.dtype).max) - img


def _divided(img: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours without the alpha by which they were multiplied; where nothing is to be seen they stay."""
    if img.dtype == np.float32:
        return img / np.where(alpha > 0, alpha, 1)[..., None]
    peak = np.iinfo(img.dtype).max
    values = img.astype(np.float64) * peak / np.maximum(alpha, 1)[..., None]
    return np.where(alpha[..., None] > 0, np.rint(values.clip(0, peak)), img).astype(img.dtype)


def _lab(img: np.ndarray, kind: int, name: str) -> np.ndarray:
    if img.shape[2] != 3 or img.dtype.kind != 'u' or img.dtype.itemsize > 2:
        raise UserError(f"'{name}' holds Lab colours as {img.dtype}, which cannot be read; save it as RGB")
    wide = img.dtype == np.uint16
    light = img[..., :1].astype(np.float64) * 100 / (65535 if wide else 255)
    if kind == _LAB:  # signed
        rest = img[..., 1:].view(np.int16 if wide else np.int8) / (256. if wide else 1.)
    else:
        rest = img[..., 1:] / (256. if wide else 1.) - 128
    return profiles.from_lab(np.concatenate([light, rest], axis=2))


def _metadata(data: bytes, page: Any) -> Metadata:
    """What a page says beside its pixels; the tags that are none of the structure's become EXIF data."""
    raw = {
        tag.code: data[tag.valueoffset:tag.valueoffset + tag.valuebytecount] for tag in page.tags
        if tag.code in _OF_THEIR_OWN
    }
    photoshop = raw.get(_PHOTOSHOP, b'')
    if not resources.iptc(photoshop):
        photoshop += resources.of_iptc(raw.get(_IPTC, b''))
    tree = {
        tag: entry for tag, entry in exif.read_tree(data, page.offset).items() if tag not in STRUCTURE | _OF_THEIR_OWN
    }
    described = tree.get(_DESCRIPTION)
    if described is not None and described.content.startswith(_OF_PROGRAMS):
        del tree[_DESCRIPTION]
    unit = page.tags.valueof(296, default=2)
    across, down = (_ratio(page.tags.valueof(tag)) * _INCHES.get(unit, 1) for tag in (282, 283))
    resolution = (across, down) if unit != 1 and across > 1 and down > 1 else None
    return Metadata(exif.build(tree, exif.byte_order(data)), raw.get(_XMP, b''), raw.get(_ICC, b''), photoshop,
                    resolution)


def _ratio(value: Any) -> float:
    """A tag's rational number; 0 where it is none."""
    try:
        return value[0] / value[1]
    except (TypeError, IndexError, ZeroDivisionError):
        return 0
