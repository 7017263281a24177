"""sRGB (IEC 61966-2-1): its curve between values and light, and how bright its primaries look. NumPy alone."""
from __future__ import annotations

from typing import Any

import numpy as np

LUMA = (.299, .587, .114)  # of red, green and blue: BT.601's, with which OpenCV turns images to grey


def srgb_to_linear(values: Any) -> np.ndarray:
    """sRGB in [0, 1] to what is proportional to light, in [0, 1]; float32 stays float32, all else becomes float64."""
    values = _floats(values)
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0) + 0.055) / 1.055)**2.4)


def linear_to_srgb(linear: Any) -> np.ndarray:
    """The inverse of `srgb_to_linear`."""
    linear = _floats(linear)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0)**(1 / 2.4) - 0.055)


def _floats(values: Any) -> np.ndarray:
    values = np.asarray(values)
    return values if values.dtype == np.float32 else values.astype(np.float64)
