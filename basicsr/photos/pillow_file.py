"""What Pillow reads and writes: WebP, GIF, BMP, palettes, animations, AVIF of 8 bits, the metadata of most formats."""
from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from basicsr.photos import exif, raw_profiles, resources, xmp
from basicsr.photos.photo import COMMENT, Encoding, Frame, Metadata, Photo, in_bits, stacked, upright
from basicsr.photos.webp_quality import quality_of
from basicsr.utils import tiff
from basicsr.utils.errors import UserError
from basicsr.utils.image_header import webp_images

_LEAST_LOSSY = 90  # of 100: hardly to be seen, and a tenth of the size
_XMP_ENTRY = 'XML:com.adobe.xmp'


@contextmanager
def opened(data: bytes, name: str, *formats: str) -> Iterator[Any]:
    """Pillow's image of these bytes. Raises `UserError` for what is too large to be true, and anything for what is damaged."""
    from PIL import Image, ImageFile
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # some program may have allowed it for all of them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of half the size that is refused, and of tags that say nothing
            with Image.open(io.BytesIO(data), formats=formats) as image:
                check_size(name, image.height, image.width)
                yield image
    except Image.DecompressionBombError as error:
        raise too_large(name) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated


@contextmanager
def opened_by_libtiff(data: bytes, name: str, number: int) -> Iterator[Any]:
    """A page of a TIFF as `opened`. Of one without compression, too, whose colours Pillow by itself leaves as stored."""
    from PIL import TiffImagePlugin
    before = TiffImagePlugin.READ_LIBTIFF
    TiffImagePlugin.READ_LIBTIFF = True
    try:
        with opened(data, name, 'TIFF') as image:
            image.seek(number)
            image.load()
            yield image
    finally:
        TiffImagePlugin.READ_LIBTIFF = before


def check_size(name: str, height: int, width: int) -> None:
    """Raise `UserError` for more pixels than Pillow takes, whoever decodes them; a small file can claim any number."""
    from PIL import Image
    limit = Image.MAX_IMAGE_PIXELS
    if limit and height * width > 2 * limit:
        raise too_large(name, f'{width}x{height} pixels, ')
    if not height or not width:
        raise UserError(f"'{name}' has no pixels: its size is {width}x{height}")


def too_large(name: str, size: str = '') -> UserError:
    from PIL import Image
    return UserError(
        f"'{name}' says that it has {size}more than the {2 * (Image.MAX_IMAGE_PIXELS or 0):,} that are read,"
        ' as files that are to exhaust the memory do')


def pixels_of(image: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels (H, W, 1|3) and alpha (H, W) of a loaded image of at most 8 bits; palettes become colours."""
    palette = image.palette.mode if image.mode == 'P' else ''
    clear = 'transparency' in info_of(image) or image.mode in ('LA', 'PA', 'RGBA', 'RGBa',
                                                               'La') or palette.endswith('A')
    if image.mode in ('1', 'L', 'LA', 'La', 'I;16', 'I', 'F'):
        mode = 'LA' if clear else 'L'
    else:
        mode = 'RGBA' if clear else 'RGB'
    array = np.array(image if image.mode == mode else image.convert(mode))
    array = array[..., None] if array.ndim == 2 else array
    if not clear:
        return array, None
    alpha = array[..., -1]
    return array[..., :-1], None if (alpha == 255).all() else alpha


def metadata_of(image: Any) -> Metadata:
    """What Pillow knows of a loaded image beside its pixels, as it stands in the file."""
    info, written = info_of(image), {key: str(value) for key, value in getattr(image, 'text', {}).items()}
    raw = raw_profiles.decoded(written)
    also = raw_profiles.by_kind(raw)
    packet = info.get('xmp') or written.get(_XMP_ENTRY) or also['xmp']
    text = [(key, value) for key, value in written.items() if key != _XMP_ENTRY and key not in raw]
    comment = info.get('comment') or b''
    if comment:
        text.append((COMMENT, comment.decode(errors='surrogateescape') if isinstance(comment, bytes) else str(comment)))
    iptc = also['iptc'] if also['iptc'].startswith(resources.SIGNATURE) else resources.of_iptc(also['iptc'])
    return Metadata(exif=exif.unmarked(info.get('exif') or also['exif']),
                    xmp=packet.encode() if isinstance(packet, str) else bytes(packet), icc=info.get('icc_profile')
                    or also['icc'], resources=iptc, resolution=_resolution(info.get('dpi')), text=tuple(text))


def info_of(image: Any) -> dict[str, Any]:
    """What Pillow says of an image, without the text of a PNG, whose keywords may be Pillow's own."""
    return {key: value for key, value in image.info.items() if key not in getattr(image, 'text', {})}


def _resolution(density: Any) -> tuple[float, float] | None:
    found = tuple(map(float, density)) if density else ()
    return (found[0], found[1]) if len(found) == 2 and min(found) > 1 else None


def with_meta(frame: Frame, meta: Metadata) -> Frame:
    """A frame as stored, turned upright as its EXIF data say, which then say that it is."""
    turned = tiff.orientation(meta.exif)
    pixels, alpha = (None if part is None else np.ascontiguousarray(upright(part, turned))
                     for part in (frame.pixels, frame.alpha))
    assert pixels is not None
    new = meta.of_new_pixels(pixels, turned > 1)
    return Frame(pixels, alpha, frame.duration, new)


def read(data: bytes, name: str, kind: str, *formats: str) -> Photo:
    """Any format that Pillow reads whole. `kind`: its name in the table."""
    with opened(data, name, *formats) as image:
        count = getattr(image, 'n_frames', 1)
        animated = count > 1 and kind != 'JPEG'
        frames, remarks = [], []
        still = getattr(image, 'default_image', False)  # of a PNG whose animation begins behind it
        if still and animated:
            remarks.append('shows another picture where animations are not known, which is lost')
        for number in range(int(still and animated), count if animated else 1):
            image.seek(number)
            image.load()
            frames.append(Frame(*pixels_of(image), duration=float(info_of(image).get('duration', 0))))
        meta = metadata_of(image)
        if xmp.has_gain_map(meta.xmp):
            remarks.append('has a gain map for bright screens, which is lost')
        loop = info_of(image).get('loop')
    first = next((chunk for chunk in webp_images(data) if chunk[0] in (b'VP8L', b'VP8 ')), (b'', b''))
    quality = round(quality_of(first[1])) if first[0] == b'VP8 ' else None
    encoding = Encoding(lossless=first[0] == b'VP8L', quality=quality, loop=loop)
    return Photo(kind, [with_meta(frame, meta) for frame in frames], encoding, animated, remarks)


def image_of(frame: Frame, colour: bool = False, alpha: bool = True) -> Any:
    """Pillow's image of a frame, in 8 bits."""
    from PIL import Image
    array = in_bits(stacked(frame, colour, alpha), 8)
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))


def encoded(images: Sequence[Any], kind: str, name: str, **options: Any) -> bytes:
    """A file of Pillow's images. Raises `UserError` where the format does not take them."""
    file = io.BytesIO()
    if len(images) > 1:
        options |= {'save_all': True, 'append_images': images[1:]}
    try:
        images[0].save(file, kind, **options)
    except (ValueError, OSError, struct.error, OverflowError) as error:
        raise UserError(f"cannot write '{name}': {kind} does not take this picture: {error}") from error
    return file.getvalue()


def timing(photo: Photo, default_loop: int = 0) -> dict[str, Any]:
    """Pillow's arguments for an animation."""
    if not photo.animated or len(photo.frames) < 2:
        return {}
    loop = photo.encoding.loop if photo.encoding.loop is not None else default_loop
    return {'duration': [round(frame.duration) for frame in photo.frames], 'loop': loop}


def write_webp(photo: Photo, name: str) -> bytes:
    own = photo.encoding if photo.format == 'WebP' else Encoding()
    quality = _LEAST_LOSSY if own.quality is None else own.quality
    return encoded([image_of(frame, colour=True) for frame in photo.frames], 'WEBP', name, lossless=own.lossless,
                   quality=quality, exact=True, method=4, **_said(photo.meta), **timing(photo))


def write_avif(photo: Photo, name: str) -> bytes:
    subsampling = ('4:4:4', '4:2:2', '4:2:0')[max(photo.encoding.sampling, 0) if photo.format == 'AVIF' else 0]
    return encoded([image_of(frame, colour=True) for frame in photo.frames], 'AVIF', name, quality=_LEAST_LOSSY,
                   subsampling=subsampling, **_said(photo.meta), **timing(photo))


def _said(meta: Metadata) -> dict[str, bytes]:
    return {key: value for key, value in (('icc_profile', meta.icc), ('exif', meta.exif), ('xmp', meta.xmp)) if value}


def write_bmp(photo: Photo, name: str) -> bytes:
    resolution = {'dpi': photo.meta.resolution} if photo.meta.resolution else {}
    return encoded([image_of(photo.frames[0], alpha=False)], 'BMP', name, **resolution)
