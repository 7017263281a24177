"""How many pixels a photo's file holds, told before any of them is decoded: a small file can hold very many."""
from __future__ import annotations

import io
import warnings
from contextlib import suppress

from basicsr.photos import formats
from basicsr.photos.reading import format_of
from basicsr.utils.image_header import read_header


def count_pixels(data: bytes, name: str) -> int | None:
    """Of all pages and frames; None where the head of a file does not tell. `name`: what messages call it.

    Raises `UserError` for bytes that are no photo, or need an extra.
    """
    from PIL import Image
    row = format_of(data, name)
    formats.needs(row, name)
    if row is formats.RAW:
        import rawpy
        with suppress(rawpy.LibRawError), rawpy.imread(io.BytesIO(data)) as raw:
            return int(raw.sizes.width * raw.sizes.height)
        return None
    if row is formats.HEIC:
        import pillow_heif
        with suppress(ValueError, RuntimeError, EOFError, SyntaxError):
            return sum(image.size[0] * image.size[1] for image in pillow_heif.open_heif(io.BytesIO(data)))
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of many pixels
            with Image.open(io.BytesIO(data)) as image:
                return image.width * image.height * int(getattr(image, 'n_frames', 1))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        size = read_header(data).size  # what Pillow does not know: 16 bits a channel, for instance
        return size[0] * size[1] if size else None
