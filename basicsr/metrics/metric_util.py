"""The module name of BasicSR for what its metrics do to images first."""
from __future__ import annotations

import numpy as np

from basicsr.utils.color import luma255

__all__ = ['reorder_image', 'to_y_channel']


def reorder_image(img: np.ndarray, input_order: str = 'HWC') -> np.ndarray:
    """(H, W), (H, W, C) or, where `input_order` is 'CHW', (C, H, W) to (H, W, C). Raises `ValueError` for another order."""
    if input_order not in ('HWC', 'CHW'):
        raise ValueError(f"input_order '{input_order}' is not supported; 'HWC' or 'CHW'")
    if img.ndim == 2:
        return img[..., None]
    return img.transpose(1, 2, 0) if input_order == 'CHW' else img


def to_y_channel(img: np.ndarray) -> np.ndarray:
    """BGR (H, W, 3) in [0, 255] to its unrounded luma (H, W, 1), float32 in [16, 235]; other images only become float32."""
    if img.ndim == 3 and img.shape[2] == 3:
        img = luma255(img[..., ::-1])[..., None]
    return img.astype(np.float32)
