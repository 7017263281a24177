"""Colour spaces. BT.601 studio-swing luma as MATLAB's `rgb2ycbcr` defines it."""
from __future__ import annotations

import cv2
import numpy as np
import torch

from basicsr.utils.srgb import srgb_to_linear

_Y_FROM_RGB = (65.481, 128.553, 24.966)
_YCBCR_FROM_RGB = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
_OFFSET = np.array([16., 128., 128.])
_XYZ_FROM_RGB = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169],
                          [0.019334, 0.119193, 0.950227]])
_D65 = np.array([0.95047, 1., 1.08883])


def rgb2ycbcr(img: np.ndarray, y_only: bool = False) -> np.ndarray:
    """RGB to YCbCr, HWC. uint8 [0, 255] in gives rounded uint8 out; float [0, 1] gives float32 in [16, 240]/255.

    Args:
        img: (H, W, 3).
        y_only: return luma alone, (H, W).
    """
    is_uint8 = img.dtype == np.uint8
    if not is_uint8 and img.dtype not in (np.float32, np.float64):
        raise TypeError(f'rgb2ycbcr takes uint8, float32 or float64, not {img.dtype}')
    values = img.astype(np.float64) / (255 if is_uint8 else 1)
    matrix, offset = (_YCBCR_FROM_RGB[:1], _OFFSET[:1]) if y_only else (_YCBCR_FROM_RGB, _OFFSET)
    out = values @ matrix.T + offset
    out = out[..., 0] if y_only else out
    return out.round().astype(np.uint8) if is_uint8 else (out / 255).astype(np.float32)


def bgr2ycbcr(img: np.ndarray, y_only: bool = False) -> np.ndarray:
    """Like `rgb2ycbcr` for BGR channel order, as OpenCV reads."""
    return rgb2ycbcr(img[..., ::-1], y_only)


def ycbcr2rgb(img: np.ndarray) -> np.ndarray:
    """The inverse of `rgb2ycbcr`, (H, W, 3): uint8 in gives uint8 out, clipped; float [0, 1] gives float32, not clipped."""
    is_uint8 = img.dtype == np.uint8
    if not is_uint8 and img.dtype not in (np.float32, np.float64):
        raise TypeError(f'ycbcr2rgb takes uint8, float32 or float64, not {img.dtype}')
    out = (img.astype(np.float64) * (1 if is_uint8 else 255) - _OFFSET) @ np.linalg.inv(_YCBCR_FROM_RGB).T
    return (out * 255).round().clip(0, 255).astype(np.uint8) if is_uint8 else out.astype(np.float32)


def ycbcr2bgr(img: np.ndarray) -> np.ndarray:
    """Like `ycbcr2rgb`, in BGR channel order."""
    return np.ascontiguousarray(ycbcr2rgb(img)[..., ::-1])


def bgr2gray(img: np.ndarray) -> np.ndarray:
    """BGR (H, W, 3), uint8, uint16 or float32, to grey (H, W, 1) of its type by OpenCV's weights, .299 R + .587 G + .114 B."""
    return cv2.cvtColor(np.ascontiguousarray(img), cv2.COLOR_BGR2GRAY)[..., None]


def luma255(rgb: np.ndarray) -> np.ndarray:
    """Unrounded luma in [16, 235] of RGB values in [0, 255]: (..., 3) to (...), float64."""
    return np.asarray(rgb, np.float64) @ np.array(_Y_FROM_RGB) / 255 + 16


def rgb2ycbcr_pt(img: torch.Tensor, y_only: bool = False) -> torch.Tensor:
    """Tensor version: RGB (n, 3, h, w) in [0, 1] to (n, 1 or 3, h, w), float."""
    matrix = torch.tensor(_YCBCR_FROM_RGB[:1] if y_only else _YCBCR_FROM_RGB, dtype=img.dtype, device=img.device)
    offset = torch.tensor(_OFFSET[:len(matrix)], dtype=img.dtype, device=img.device).view(1, -1, 1, 1)
    return (torch.einsum('oc,nchw->nohw', matrix, img) + offset) / 255


def rgb2lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to CIELAB under D65 (2 degrees), (..., 3), float64: L in [0, 100], a and b around 0."""
    xyz = srgb_to_linear(np.asarray(rgb, np.float64)) @ _XYZ_FROM_RGB.T / _D65
    f = np.where(xyz > (6 / 29)**3, np.cbrt(xyz), xyz * (29 / 6)**2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
