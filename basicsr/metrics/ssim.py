"""Structural similarity (Wang et al. 2004): 11-tap Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, range 255."""
from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from basicsr.metrics.protocol import get_protocol, prepared_pair
from basicsr.utils.registry import METRIC_REGISTRY

_WINDOW = cv2.getGaussianKernel(11, 1.5).ravel()
_RADIUS = 5
_C1, _C2 = (0.01 * 255)**2, (0.03 * 255)**2


@METRIC_REGISTRY.register()
def calculate_ssim(img: np.ndarray, img2: np.ndarray, crop_border: int = 0, input_order: str = 'HWC',
                   test_y_channel: bool = False,
                   protocol: Literal['basicsr', 'restormer-rgb3d', 'retinexformer', 'matlab-y', 'pyiqa'] | None = None,
                   **kwargs) -> float:  # yapf: disable
    """Mean SSIM; arguments as `calculate_psnr`. Without a protocol: per channel, windows inside the image only.

    Raises:
        ValueError: for images of different shapes, or smaller than the window where borders are not repeated.
    """
    rules = get_protocol(protocol) if protocol else None
    a, b = prepared_pair(img, img2, crop_border, input_order, test_y_channel, rules, 'ssim')
    borders = rules.ssim if rules else 'valid'
    if borders == 'valid' and min(a.shape[:2]) < len(_WINDOW):
        raise ValueError(f'SSIM needs at least 11x11 pixels, the image has {a.shape[0]}x{a.shape[1]}')
    lowest = 0. if rules and rules.ssim_yiq else -np.inf
    return float(_ssim_map(a, b, borders == 'volume', borders == 'valid', lowest).mean())


def _ssim_map(a: np.ndarray, b: np.ndarray, volume: bool, valid: bool, lowest: float) -> np.ndarray:
    mean_a, mean_b, aa, bb, ab = (_blur(x, volume, valid) for x in (a, b, a * a, b * b, a * b))
    var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    structure = np.maximum((2 * cov + _C2) / (var_a + var_b + _C2), lowest)
    return (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1) * structure


def _blur(x: np.ndarray, volume: bool, valid: bool) -> np.ndarray:
    """Gaussian mean of each pixel's window, (H, W, C); along the channels too when `volume`."""
    out = cv2.sepFilter2D(x, cv2.CV_64F, _WINDOW, _WINDOW, borderType=cv2.BORDER_REPLICATE).reshape(x.shape)
    if volume:
        channels = x.shape[2]
        taps = np.zeros((channels, channels))
        for c in range(channels):  # channels beyond the first and last repeat them
            for offset, weight in enumerate(_WINDOW, start=c - _RADIUS):
                taps[c, min(max(offset, 0), channels - 1)] += weight
        out = out @ taps.T
    return out[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS] if valid else out
