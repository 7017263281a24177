"""Which photos are black and white, although their files have three channels."""
from __future__ import annotations

import cv2
import numpy as np

from basicsr.photos.photo import Photo

_EXACT = 1e-4  # of white: what a profile's way to sRGB leaves between channels that are equal
_LEVELS = 2  # that a lossy codec may leave: WebP has no grey, and its decoder rounds each channel by itself
_FIELDS = 32  # along the long side
_TINT = .5  # of a level: what the mean of a field has where only rounding was at work


def left_between_channels(photo: Photo) -> float:
    """By how much, of white, the channels of a black-and-white photo may differ as it was stored; 0 for exact formats."""
    return _LEVELS / (2.**max(photo.encoding.bits, 8) - 1) if photo.lossy else 0.


def is_neutral(img: np.ndarray, left: float = 0.) -> bool:
    """Whether an sRGB picture (H, W, 3) in [0, 1] is black and white. `left`: see `left_between_channels`.

    A photo that is toned on purpose has, even in the dark, more of one colour than of another all over a field: what
    rounding leaves has no direction from blue to red, and at most a level from green to both.
    """
    most = max(left, _EXACT)
    for some in (img[::7, ::7], img):  # most photos are told by a few of their pixels
        if (np.ptp(some, axis=2) > most + _EXACT).any():
            return False
    if not left:
        return True
    level = left / _LEVELS
    red, green, blue = np.moveaxis(_means(img), -1, 0)
    magenta = (red + blue) / 2 - green
    return bool((abs(red - blue) < _TINT * level).all() and (magenta > -_TINT * level).all()
                and (magenta < 1.5 * level).all())


def _means(img: np.ndarray) -> np.ndarray:
    """Of fields that are the 32nd part of the long side, or a pixel."""
    height, width = img.shape[:2]
    side = max(1., max(height, width) / _FIELDS)
    return cv2.resize(img, (max(1, round(width / side)), max(1, round(height / side))), interpolation=cv2.INTER_AREA)
