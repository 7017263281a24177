"""MATLAB's `imresize` and colour spaces, by BasicSR's module name for them."""
from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from basicsr.utils.color import bgr2ycbcr, rgb2ycbcr, ycbcr2bgr, ycbcr2rgb

__all__ = ['bgr2ycbcr', 'cubic', 'imresize', 'rgb2ycbcr', 'ycbcr2bgr', 'ycbcr2rgb']

Image = TypeVar('Image', np.ndarray, Tensor)


def cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel (1981) with a = -1/2, which is 0 from distance 2 on."""
    d = x.abs()
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return near * (d <= 1) + far * ((d > 1) & (d <= 2))


@torch.no_grad()
def imresize(img: Image, scale: float, antialiasing: bool = True) -> Image:
    """`imresize(img, scale, 'bicubic')` of MATLAB: sides become ceil(side * scale), and borders are mirrored.

    Args:
        img: floating array (H, W) or (H, W, C), or tensor (H, W) or (C, H, W), of any range.
        scale: factor of both sides, above 0.
        antialiasing: widen the kernel by 1 / scale when the image is made smaller.

    Returns:
        The same kind and type as `img`, neither rounded nor clipped.
    """
    if not scale > 0:
        raise ValueError(f'scale must be above 0, not {scale}')
    x = torch.from_numpy(np.moveaxis(img, -1, 0) if img.ndim == 3 else img) if isinstance(img, np.ndarray) else img
    if not x.is_floating_point():
        raise TypeError(f'imresize takes floating images, not {img.dtype}')
    rows, columns = (_weights(side, scale, antialiasing).to(x) for side in x.shape[-2:])
    out = rows @ x @ columns.T
    if isinstance(img, Tensor):
        return out
    return np.ascontiguousarray(np.moveaxis(out.numpy(), 0, -1) if img.ndim == 3 else out.numpy())


def enlarged(img: np.ndarray, like: np.ndarray) -> np.ndarray:
    """An input (H, W, C), floating, beside a result that is a whole number of times as large: enlarged to its size."""
    scale = like.shape[0] // img.shape[0]
    return imresize(img, scale) if scale > 1 else img


def _weights(length: int, scale: float, antialiasing: bool) -> Tensor:
    """The matrix (ceil(length * scale), length), float64, that resizes one direction."""
    shrink = scale if antialiasing and scale < 1 else 1.
    size = math.ceil(length * scale)
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / scale - 0.5  # in pixels of the input
    reach = math.ceil(2 / shrink) + 1
    pixels = centres.floor().long()[:, None] + torch.arange(-reach, reach + 1)
    weights = cubic(shrink * (centres[:, None] - pixels))
    weights /= weights.sum(1, keepdim=True)
    mirrored = pixels % (2 * length)
    mirrored = torch.where(mirrored < length, mirrored, 2 * length - 1 - mirrored)
    return torch.zeros(size, length, dtype=torch.float64).scatter_add_(1, mirrored, weights)
