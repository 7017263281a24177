"""Structural similarity (Wang et al. 2004), K1 = 0.01, K2 = 0.03, range 255; window and borders by the protocol."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import cv2
import numpy as np

from basicsr.metrics.protocol import Protocol, check_size, describe_protocol, get_protocol, prepared_pair
from basicsr.utils.registry import METRIC_REGISTRY
from basicsr.utils.values import AxisOrder, Natural

_WINDOWS = {'gaussian': cv2.getGaussianKernel(11, 1.5).ravel(), 'uniform': np.full(7, 1 / 7)}
_PLAIN = get_protocol('basicsr')  # without a protocol: its window and borders; images as they are
_C1, _C2 = (0.01 * 255)**2, (0.03 * 255)**2


@METRIC_REGISTRY.register()
def calculate_ssim(img: np.ndarray, img2: np.ndarray, crop_border: Natural = 0, input_order: AxisOrder = 'HWC',
                   test_y_channel: bool = False,
                   protocol: Literal['basicsr', 'restormer-rgb3d', 'retinexformer', 'matlab-y', 'all-in-one',
                                     'all-in-one-uniform', 'pyiqa', 'cidnet', 'cidnet-gt-mean', 'darkir', 'nafnet',
                                     'nafnet-8bit'] | None = None, **kwargs) -> float:
    """Mean SSIM; arguments as `calculate_psnr`. Without a protocol: per channel, windows inside the image only.

    Raises:
        ValueError: for images of different shapes, or smaller than the window where borders are not repeated.
    """
    rules = get_protocol(protocol) if protocol else _PLAIN
    a, b = prepared_pair(img, img2, crop_border, input_order, test_y_channel, rules if protocol else None, 'ssim')
    check_size(a, _least_size({'protocol': protocol}), 'SSIM')
    return float(_ssim_map(a, b, rules).mean())


def _least_size(opt: Mapping[str, Any]) -> tuple[int, int]:
    rules = get_protocol(opt['protocol']) if opt.get('protocol') else _PLAIN
    side = len(_WINDOWS[rules.window]) if rules.ssim == 'valid' else 1
    return side, side


calculate_ssim.describe = describe_protocol
calculate_ssim.least_size = _least_size


def _ssim_map(a: np.ndarray, b: np.ndarray, rules: Protocol) -> np.ndarray:
    mean_a, mean_b, aa, bb, ab = (_mean(x, rules) for x in (a, b, a * a, b * b, a * b))
    pixels = len(_WINDOWS[rules.window])**2
    unbias = pixels / (pixels - 1) if rules.sample_covariance else 1
    var_a, var_b, cov = ((xy - x * y) * unbias
                         for xy, x, y in ((aa, mean_a, mean_a), (bb, mean_b, mean_b), (ab, mean_a, mean_b)))
    structure = (2 * cov + _C2) / (var_a + var_b + _C2)
    structure = np.maximum(structure, 0) if rules.ssim_yiq else structure
    return (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1) * structure


def _mean(x: np.ndarray, rules: Protocol) -> np.ndarray:
    """Weighted mean of each pixel's window, (H, W, C); along the channels too in a volume."""
    window = _WINDOWS[rules.window]
    radius = len(window) // 2
    out = cv2.sepFilter2D(x, cv2.CV_64F, window, window, borderType=cv2.BORDER_REPLICATE).reshape(x.shape)
    if rules.ssim == 'volume':
        channels = x.shape[2]
        taps = np.zeros((channels, channels))
        for c in range(channels):  # channels beyond the first and last repeat them
            for offset, weight in enumerate(window, start=c - radius):
                taps[c, min(max(offset, 0), channels - 1)] += weight
        out = out @ taps.T
    return out[radius:-radius, radius:-radius] if rules.ssim == 'valid' else out
