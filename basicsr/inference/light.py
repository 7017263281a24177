"""Pictures in light: brighter by stops, between two of them, and how much brighter one is than another. NumPy and OpenCV.

Pictures are sRGB (H, W, C) in [0, 1], float32; what is done to them is done to their light, which is added and multiplied,
and not to the values of its curve.
"""
from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from basicsr.photos.profiles import luma
from basicsr.utils.srgb import linear_to_srgb, srgb_to_linear

_AROUND, _DARKEST, _MOST = 9, 1e-4, 32  # pixels; of white; times the light
_ROWS = 256


def exposed(img: np.ndarray, stops: float) -> np.ndarray:
    """Values of any range with 2**stops times their light, not clipped; NaN and infinity stay."""
    return linear_to_srgb(srgb_to_linear(img) * np.float32(2**stops)) if stops else img


def mixed(before: np.ndarray, after: np.ndarray, strength: float) -> np.ndarray:
    """The light of `before` and `strength` times what `after` has more: 0 is the first, 1 the second; clipped to [0, 1]."""

    def mix(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        light = srgb_to_linear(old)
        return light + np.float32(strength) * (srgb_to_linear(new) - light)

    return _in_bands(mix, before, after, 0)


def with_grain(before: np.ndarray, after: np.ndarray, denoise: float) -> np.ndarray:
    """`after` with its own fine detail times `denoise`, and that of `before`, as bright as it is there, times the rest.

    Fine is what differs from the mean of 9 x 9 pixels. So brightness and colours stay those of `after`.
    """

    def blend(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        times = gain(old, new)
        own, light = srgb_to_linear(old), srgb_to_linear(new)
        grain, detail = (own - _around(own)) * times, light - _around(light)
        return light + np.float32(1 - denoise) * (grain - detail)

    return _in_bands(blend, before, after, 2 * (_AROUND // 2))


def gain(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(H, W, 1): how many times as bright it is around each pixel; exactly 1 where nothing changes.

    `after` may be a whole number of times as large.
    """
    height, width = before.shape[:2]
    scale = after.shape[0] // height
    if scale > 1:
        after = after[:height * scale, :width * scale].reshape(height, scale, width, scale, 3).mean(axis=(1, 3))
    old, new = (_around(srgb_to_linear(luma(img))) + _DARKEST for img in (before, after))
    return (new / old).clip(0, _MOST)


def _around(img: np.ndarray) -> np.ndarray:
    """The mean of 9 x 9 pixels around each."""
    return cv2.blur(img, (_AROUND, _AROUND)).reshape(img.shape)


def _in_bands(function: Callable[[np.ndarray, np.ndarray], np.ndarray], before: np.ndarray, after: np.ndarray,
              margin: int) -> np.ndarray:
    """A function of two pictures to light, here to sRGB; in bands of rows that see `margin` rows around, for little memory."""
    after = np.broadcast_to(after, before.shape)  # grey beside the colours it came from
    out = np.empty(before.shape, np.float32)
    for top in range(0, len(out), _ROWS):
        first, last = max(0, top - margin), top + _ROWS + margin
        light = function(before[first:last], after[first:last])[top - first:][:_ROWS]
        out[top:top + _ROWS] = linear_to_srgb(light.clip(0, 1))
    return out
