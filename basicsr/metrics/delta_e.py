"""Colour difference CIEDE2000 (Sharma, Wu and Dalal 2005)."""
from __future__ import annotations

import numpy as np

from basicsr.metrics.protocol import prepared_pair
from basicsr.utils.color import rgb2lab
from basicsr.utils.registry import METRIC_REGISTRY
from basicsr.utils.values import AxisOrder, Natural


@METRIC_REGISTRY.register()
def calculate_delta_e(img: np.ndarray, img2: np.ndarray, crop_border: Natural = 0, input_order: AxisOrder = 'HWC',
                      **kwargs) -> float:
    """CIEDE2000 of sRGB images under D65, mean over pixels; about 1 is just noticeable, 100 is black to white.

    Args:
        img, img2: result and ground truth, BGR or grey, values in [0, 255], uint8 or float.
        crop_border: pixels cut off at each side before comparing.
        input_order: 'HWC' or 'CHW'.

    Raises:
        ValueError: for images of different shapes.
    """
    pair = prepared_pair(img, img2, crop_border, input_order, False, None, 'delta_e')
    a, b = (rgb2lab(np.broadcast_to(x[..., ::-1], (*x.shape[:2], 3)) / 255) for x in pair)
    return float(ciede2000(a, b).mean())


calculate_delta_e.better = 'lower'


def ciede2000(lab1: np.ndarray, lab2: np.ndarray) -> np.ndarray:
    """Differences of CIELAB colours (..., 3), shape (...), with parametric factors 1. Names as in the paper."""
    l1, a1, b1 = np.moveaxis(np.asarray(lab1, np.float64), -1, 0)
    l2, a2, b2 = np.moveaxis(np.asarray(lab2, np.float64), -1, 0)
    chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * _share(chroma)  # 1 + G
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = c1 * c2 == 0  # hues mean nothing
    opposite = (a1 * b2 == a2 * b1) & (np.abs(h1 - h2) > 90)  # 180 degrees, which rounding makes more or less
    turn = np.where(opposite, np.where(h2 > h1, 180., -180.), (h2 - h1 + 180) % 360 - 180)
    delta_h = np.where(grey, 0, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2))
    far = (np.abs(h1 - h2) > 180) & ~opposite
    hue = np.where(grey, h1 + h2, (h1 + h2 + np.where(far, np.where(h1 + h2 < 360, 360, -360), 0)) / 2)
    lightness, c = (l1 + l2) / 2, (c1 + c2) / 2
    t = (1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.2 * _cos(4 * hue - 63))
    s_l = 1 + 0.015 * (lightness - 50)**2 / np.sqrt(20 + (lightness - 50)**2)
    s_c, s_h = 1 + 0.045 * c, 1 + 0.015 * c * t
    rotation = -2 * _share(c) * np.sin(np.radians(60 * np.exp(-((hue - 275) / 25)**2)))
    d_l, d_c, d_h = (l2 - l1) / s_l, (c2 - c1) / s_c, delta_h / s_h
    return np.sqrt(np.maximum(d_l**2 + d_c**2 + d_h**2 + rotation * d_c * d_h, 0))


def _share(chroma: np.ndarray) -> np.ndarray:
    power = chroma**7
    return np.sqrt(power / (power + 25.**7))


def _cos(degrees: np.ndarray) -> np.ndarray:
    return np.cos(np.radians(degrees))
