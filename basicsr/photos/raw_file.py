"""Camera RAW files, developed as the camera saw the light: its white balance and black level, nothing brightened."""
from __future__ import annotations

import io

import numpy as np

from basicsr.photos import exif
from basicsr.photos import pillow_file as pillow
from basicsr.photos.photo import Encoding, Frame, Metadata, Photo
from basicsr.utils.errors import UserError

_SRGB = (2.4, 12.92)  # its curve, as LibRaw wants it: power, and slope near black
# what a TIFF directory says of the photo, not of the sensor's pixels
_DESCRIPTIONS = {
    270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432, 34665, 34853, 36867, 40091, 40092, 40093,
    40094, 40095
}


def read(data: bytes, name: str) -> Photo:
    import rawpy
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            pillow.check_size(name, raw.sizes.raw_height, raw.sizes.raw_width)
            meta = Metadata(exif=_exif(data) or _exif_of_preview(raw, name))
            pixels = raw.postprocess(use_camera_wb=True, no_auto_bright=True, output_bps=16, gamma=_SRGB,
                                     output_color=rawpy.ColorSpace.sRGB)
    except rawpy.LibRawError as error:
        said = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else error
        raise UserError(
            f"'{name}' cannot be developed: {said} (a damaged file, or a camera that LibRaw does not know)") from error
    pixels = np.ascontiguousarray(pixels)  # upright by LibRaw
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return Photo('camera RAW', [Frame(pixels, meta=meta.of_new_pixels(pixels, True))], Encoding(bits=16))


def _exif(data: bytes) -> bytes:
    """Of a RAW file that is a TIFF: what it says of the photo."""
    if exif.byte_order(data) == '' or exif.is_big(data):
        return b''
    found = {tag: entry for tag, entry in exif.read_tree(data).items() if tag in _DESCRIPTIONS}
    return exif.build(found, exif.byte_order(data))


def _exif_of_preview(raw: object, name: str) -> bytes:
    """Of others: what the JPEG says that cameras put into them."""
    import rawpy
    try:
        preview = raw.extract_thumb()  # type: ignore[attr-defined]
    except rawpy.LibRawError:
        return b''
    if preview.format != rawpy.ThumbFormat.JPEG:
        return b''
    try:
        with pillow.opened(bytes(preview.data), name, 'JPEG', 'MPO') as image:
            return pillow.metadata_of(image).exif
    except (UserError, OSError, SyntaxError, ValueError):
        return b''
