"""GIF, written with a palette of each frame's own: exact where it holds the frame's colours, transparency included."""
from __future__ import annotations

from typing import Any

import numpy as np

from basicsr.photos import pillow_file as pillow
from basicsr.photos.photo import Frame, Photo, in_bits, to_float

_MOST = 256  # colours; transparency is one of them


def write(photo: Photo, name: str) -> bytes:
    options: dict[str, Any] = {'comment': photo.meta.comment} if photo.meta.comment else {}
    options |= pillow.timing(photo)
    if photo.encoding.loop is None:
        options.pop('loop', None)
    clear = any(frame.alpha is not None for frame in photo.frames)
    if clear and len(photo.frames) > 1:
        # each frame goes before the next one comes, which would be seen around it; what a frame without an entry for
        # transparency leaves is not transparent, and Pillow takes away what is not used
        options |= {'disposal': 2, 'optimize': False}
    return pillow.encoded([_indexed(frame, clear) for frame in photo.frames], 'GIF', name, **options)


def _indexed(frame: Frame, clear: bool) -> Any:
    """Pillow's image of a frame in at most 256 colours, with an entry for transparency where something is `clear`.

    What is half opaque or more is opaque, there is nothing between.
    """
    from PIL import Image
    pixels = in_bits(frame.pixels, 8)
    if not clear and frame.grey:
        return Image.fromarray(pixels[..., 0])
    height, width = pixels.shape[:2]
    pixels = np.broadcast_to(pixels, (height, width, 3))
    seen = np.ones((height, width), bool) if frame.alpha is None else to_float(frame.alpha) >= .5
    numbers, palette = _palette(pixels[seen], _MOST - clear)  # colours that nobody sees take no place
    indices = np.full((height, width), len(palette) if clear else 0, np.uint8)
    indices[seen] = numbers
    if clear:
        hidden = pixels[~seen][:1]
        palette = np.vstack([palette, hidden if len(hidden) else np.zeros((1, 3), np.uint8)])
    image = Image.fromarray(indices)
    image.putpalette(palette.astype(np.uint8).tobytes())  # which makes one of colours of it
    if clear:
        image.info['transparency'] = len(palette) - 1
    return image


def _palette(colours: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of each of the colours (N, 3) in a palette, and that palette (M, 3): exact, else by Pillow's median cut."""
    from PIL import Image
    if not len(colours):
        return np.zeros(0, np.uint8), np.zeros((0, 3), np.uint8)
    row = Image.fromarray(np.ascontiguousarray(colours)[None])
    found = row.getcolors(most)
    if found is None:
        cut = row.quantize(most)
        return np.asarray(cut)[0], np.array(cut.getpalette(), np.uint8).reshape(-1, 3)[:most]
    numbers = np.sort(_number(np.array([colour for _, colour in found])))
    palette = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], axis=1)
    return np.searchsorted(numbers, _number(colours)).astype(np.uint8), palette


def _number(colours: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    return red << 16 | green << 8 | blue
