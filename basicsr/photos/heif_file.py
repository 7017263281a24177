"""HEIC and AVIF in their own depth of 8 to 12 bits."""
from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Any

import numpy as np

from basicsr.photos import exif, named_colours
from basicsr.photos import pillow_file as pillow
from basicsr.photos.boxes import boxes
from basicsr.photos.photo import Encoding, Frame, Metadata, Photo, full_range, in_bits, stacked
from basicsr.utils.errors import UserError

_QUALITY = 90
_AV1, _NUMBERS = b'av1C', b'colrnclx'
_GAIN_MAPS = (b'hdrgainmap', b'tmap')  # what Apple and ISO 21496-1 call them


def read_heic(data: bytes, name: str) -> Photo:
    import pillow_heif
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    images = sorted(file, key=lambda image: not image.info.get('primary'))  # the one that programs show comes first
    for image in images:
        pillow.check_size(name, image.size[1], image.size[0])
    read_images = [_heic_frame(image) for image in images]
    frames = [frame for frame, _ in read_images]
    info: dict[str, Any] = dict(images[0].info)
    remarks = list(dict.fromkeys(remark for _, remark in read_images if remark))
    remarks += ['has a depth map, which is lost'] if info.get('depth_images') else []
    remarks += _gain_map(_about(data))
    sampling = {444: 0, 422: 1, 420: 2}.get(info.get('chroma', 444), 0)
    return Photo('HEIC', frames, Encoding(bits=info.get('bit_depth', 8), sampling=sampling), remarks=remarks)


def _gain_map(said: bytes) -> list[str]:
    return ['has a gain map for bright screens, which is lost'] if any(name in said for name in _GAIN_MAPS) else []


def _about(data: bytes) -> bytes:
    """What a file says of its images, without their pixels."""
    return next((body for kind, body in boxes(data) if kind == b'meta'), b'')


def _heic_frame(image: Any) -> tuple[Frame, str]:
    array = np.array(image)  # upright by libheif; a copy: NumPy 1 does not keep what lies below alive
    array = array[..., None] if array.ndim == 2 else array
    alpha = array[..., -1] if array.shape[2] in (2, 4) else None
    pixels = array if alpha is None else array[..., :-1]
    if alpha is not None and image.premultiplied_alpha:
        peak = np.iinfo(array.dtype).max
        pixels = (pixels.astype(np.float32) * peak / np.maximum(alpha, 1)[..., None]).clip(0, peak).round().astype(
            array.dtype)
    info = image.info
    icc, remark = info.get('icc_profile') or b'', ''
    if not icc:
        said = info.get('nclx_profile') or {}
        named = named_colours.by_numbers(said.get('color_primaries', 0), said.get('transfer_characteristics', 0),
                                         pixels.shape[2] == 1)
        icc, remark = named or (b'', '')
    meta = Metadata(exif=exif.unmarked(info.get('exif') or b''), xmp=info.get('xmp') or b'',
                    icc=icc).of_new_pixels(pixels, True)
    return Frame(pixels, alpha, meta=meta), remark


def write_heic(photo: Photo, name: str) -> bytes:
    import pillow_heif
    file = pillow_heif.HeifFile()
    deep = photo.frames[0].pixels.dtype != np.uint8
    for frame in photo.frames:
        array = np.ascontiguousarray(in_bits(stacked(frame, colour=True), 16 if deep else 8))
        if deep and array.dtype == np.uint8:
            array = array.astype(np.uint16) * 257  # a page of 8 bits among others
        mode = ('RGBA' if array.shape[2] == 4 else 'RGB') + (';16' if deep else '')
        image = file.add_frombytes(mode, (array.shape[1], array.shape[0]), array.tobytes())
        meta = frame.meta
        image.info |= {
            key: value for key, value in (('exif', meta.exif), ('xmp', meta.xmp), ('icc_profile', meta.icc)) if value
        }
        if meta.icc:
            image.info['icc_profile_type'] = 'prof'
    chroma = (444, 422, 420)[max(photo.encoding.sampling, 0)] if photo.format == 'HEIC' else 444
    before = pillow_heif.options.SAVE_HDR_TO_12_BIT
    pillow_heif.options.SAVE_HDR_TO_12_BIT = deep and photo.encoding.bits > 10
    out = io.BytesIO()
    try:
        file.save(out, quality=_QUALITY, chroma=chroma)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"cannot write '{name}': the encoder says: {error}") from error
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = before
    return out.getvalue()


def read_avif(data: bytes, name: str) -> Photo:
    photo = pillow.read(data, name, 'AVIF', 'AVIF')
    bits, photo.encoding.sampling = _av1_form(data)
    if bits > 8 and not photo.animated:
        import imagecodecs
        array = imagecodecs.avif_decode(data)
        array = full_range(array[..., None] if array.ndim == 2 else array, bits)
        frame = Frame(array[..., :-1], array[..., -1]) if array.shape[2] in (2, 4) else Frame(array)
        with pillow.opened(data, name, 'AVIF') as image:
            photo.frames = [pillow.with_meta(frame, pillow.metadata_of(image))]
        photo.encoding.bits = bits
    said = _about(data)
    at = said.find(_NUMBERS) + len(_NUMBERS)
    if not photo.meta.icc and at >= len(_NUMBERS):
        primaries, transfer = struct.unpack_from('>HH', said.ljust(at + 4, b'\0'), at)
        icc, remark = named_colours.by_numbers(primaries, transfer, photo.frames[0].grey) or (b'', '')
        photo.frames = [replace(frame, meta=replace(frame.meta, icc=icc)) for frame in photo.frames]
        photo.remarks += [remark] if remark else []
    photo.remarks += _gain_map(said)
    return photo


def _av1_form(data: bytes) -> tuple[int, int]:
    """Bits per channel and subsampling (0 for 4:4:4, 1, 2 for 4:2:0), as the first AV1 image's configuration says."""
    at = data.find(_AV1)
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10, (flags >> 3 & 1) + (flags >> 2 & 1)


def write_avif(photo: Photo, name: str) -> bytes:
    """Pillow writes 8 bits, OpenCV those of one picture that has more."""
    import cv2
    first = photo.frames[0]
    if first.pixels.dtype == np.uint8 or len(photo.frames) > 1 or not writes_deep_avif():
        return pillow.write_avif(photo, name)
    bits = 12 if photo.encoding.bits > 10 else 10
    array = in_bits(stacked(first, colour=True), 16)
    array = np.rint(array.astype(np.float32) * (((1 << bits) - 1) / 65535)).astype(np.uint16)
    array = cv2.cvtColor(array, cv2.COLOR_RGBA2BGRA if array.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    meta = first.meta
    said = [(kind, np.frombuffer(value, np.uint8))
            for kind, value in ((cv2.IMAGE_METADATA_EXIF, meta.exif), (cv2.IMAGE_METADATA_XMP, meta.xmp),
                                (cv2.IMAGE_METADATA_ICCP, meta.icc)) if value]
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, _QUALITY]
    try:
        _, data = cv2.imencodeWithMetadata('.avif', array, [kind for kind, _ in said], [value for _, value in said],
                                           options)
    except cv2.error as error:
        raise UserError(f"cannot write '{name}': the encoder says: {error.err}") from error
    return data.tobytes()


def writes_deep_avif() -> bool:
    """Whether the OpenCV that is installed does."""
    import cv2
    return hasattr(cv2, 'imencodeWithMetadata') and cv2.haveImageWriter('.avif')
