"""Light and two colours (Y, Cb, Cr) of a TIFF to RGB, by the numbers that its page says of them (TIFF 6.0, section 21)."""
from __future__ import annotations

from typing import Any

import numpy as np

_LUMA = np.array((.299, .587, .114))  # of red, green and blue, where nothing else is said
_ROWS = 256
# schemes that keep numbers as they are; decoders of all others have ideas of their own on colours
_EXACT = ('none', 'lzw', 'packbits', 'adobe_deflate', 'deflate', 'zstd', 'lzma')
_JPEGS = (6, 7, 33007, 34892)


def is_rgb(page: Any) -> bool:
    """Whether tifffile's array of such a page is RGB by now: that of a JPEG, but for alpha and planes."""
    return page.compression in _JPEGS and page.planarconfig == 1 and not page.extrasamples


def is_known(page: Any) -> bool:
    """Whether its array is what `to_rgb` takes."""
    exact = page.compression in _JPEGS or getattr(page.compression, 'name', '').lower() in _EXACT
    return exact and page.dtype is not None and page.dtype.kind == 'u' and page.dtype.itemsize <= 2


def to_rgb(img: np.ndarray, bits: int, coefficients: Any = None, references: Any = None) -> np.ndarray:
    """(H, W, 3) of so many bits to RGB, uint8 or uint16.

    Args:
        coefficients: how much of the light is red, green and blue. references: the numbers of black and white of each
            channel. Both as the tags hold them; what is none of these is not used.
    """
    peak, middle = 2.**bits - 1, 2.**(bits - 1)
    luma = _numbers(coefficients, 3)
    if luma is None or (luma <= 0).any():
        luma = _LUMA
    ends = _numbers(references, 6)
    if ends is None or (ends[::2] == ends[1::2]).any():
        ends = np.array((0, peak, middle, peak, middle, peak))
    black, white = (ends[at::2].astype(np.float32) for at in (0, 1))
    # light from 0 to 1, colours from -0.5 to 0.5 but for half a step
    range_ = np.array((1, (middle - 1) / peak, (middle - 1) / peak), np.float32)
    blue, red = (np.float32(2 - 2 * luma[channel]) for channel in (2, 0))
    dtype = np.uint8 if bits <= 8 else np.uint16
    out = np.empty(img.shape, dtype)
    for top in range(0, len(img), _ROWS):  # a photo is large, and floating numbers take four times as much
        y, cb, cr = np.moveaxis((img[top:top + _ROWS] - black) * (range_ / (white - black)), -1, 0)
        r, b = y + red * cr, y + blue * cb
        g = (y - np.float32(luma[0]) * r - np.float32(luma[2]) * b) / np.float32(luma[1])
        out[top:top + _ROWS] = np.rint(np.stack([r, g, b], axis=-1).clip(0, 1) * np.iinfo(dtype).max)
    return out


def _numbers(value: Any, count: int) -> np.ndarray | None:
    """A tag's numbers, each of which may be a ratio of two; None where there are not so many."""
    try:
        array = np.array(value, np.float64).ravel()
    except (TypeError, ValueError):
        return None
    if len(array) == 2 * count and array[1::2].all():
        array = array[::2] / array[1::2]
    return array if len(array) == count and np.isfinite(array).all() else None
