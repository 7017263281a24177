"""Noise and JPEG compression of images in [0, 1], by BasicSR's names: arrays (H, W, C) and, in `_pt`, batches of tensors.

`clip` brings the result to [0, 1], `rounds` to the steps of 8 bits. Grey noise is the same in all channels. In batches the
strength, and whether noise is grey, may be a tensor (B,), one value an image; random functions draw it so.
"""
from __future__ import annotations

import math
import random
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from basicsr.utils.srgb import LUMA

Image = TypeVar('Image', np.ndarray, Tensor)
Range = tuple[float, float]  # low and high; a list will do


def generate_gaussian_noise(img: np.ndarray, sigma: float = 10, gray_noise: bool = False) -> np.ndarray:
    """White noise of the image's shape, float32; `sigma` in 8-bit levels."""
    noise = np.random.randn(*img.shape[:2], 1) if gray_noise else np.random.randn(*img.shape)
    return np.broadcast_to(noise * (sigma / 255), img.shape).astype(np.float32)


def add_gaussian_noise(img: np.ndarray, sigma: float = 10, clip: bool = True, rounds: bool = False,
                       gray_noise: bool = False) -> np.ndarray:
    return _finished(img + generate_gaussian_noise(img, sigma, gray_noise), clip, rounds)


def random_generate_gaussian_noise(img: np.ndarray, sigma_range: Range = (0, 10), gray_prob: float = 0) -> np.ndarray:
    sigma = np.random.uniform(*sigma_range)
    return generate_gaussian_noise(img, sigma, np.random.uniform() < gray_prob)


def random_add_gaussian_noise(img: np.ndarray, sigma_range: Range = (0, 1.0), gray_prob: float = 0, clip: bool = True,
                              rounds: bool = False) -> np.ndarray:
    return _finished(img + random_generate_gaussian_noise(img, sigma_range, gray_prob), clip, rounds)


def generate_poisson_noise(img: np.ndarray, scale: float = 1.0, gray_noise: bool = False) -> np.ndarray:
    """Shot noise, float32, times `scale`: Poisson counts whose white is the number of the image's values, to a power of 2."""
    values = cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)[..., None] if gray_noise else img
    values = (values * 255).round().clip(0, 255) / 255
    white = 2**math.ceil(math.log2(len(np.unique(values))))
    noise = np.random.poisson(values * white) / white - values
    return np.broadcast_to(noise * scale, img.shape).astype(np.float32)


def add_poisson_noise(img: np.ndarray, scale: float = 1.0, clip: bool = True, rounds: bool = False,
                      gray_noise: bool = False) -> np.ndarray:
    return _finished(img + generate_poisson_noise(img, scale, gray_noise), clip, rounds)


def random_generate_poisson_noise(img: np.ndarray, scale_range: Range = (0, 1.0), gray_prob: float = 0) -> np.ndarray:
    scale = np.random.uniform(*scale_range)
    return generate_poisson_noise(img, scale, np.random.uniform() < gray_prob)


def random_add_poisson_noise(img: np.ndarray, scale_range: Range = (0, 1.0), gray_prob: float = 0, clip: bool = True,
                             rounds: bool = False) -> np.ndarray:
    return _finished(img + random_generate_poisson_noise(img, scale_range, gray_prob), clip, rounds)


def generate_gaussian_noise_pt(img: Tensor, sigma: float | Tensor = 10, gray_noise: float | Tensor = 0) -> Tensor:
    """Of (B, C, H, W)."""
    noise, grey = torch.randn_like(img), _each(img, gray_noise) > 0
    noise = torch.where(grey, torch.randn_like(img[:, :1]), noise) if grey.any() else noise
    return noise * _each(img, sigma) / 255


def add_gaussian_noise_pt(img: Tensor, sigma: float | Tensor = 10, gray_noise: float | Tensor = 0, clip: bool = True,
                          rounds: bool = False) -> Tensor:
    return _finished(img + generate_gaussian_noise_pt(img, sigma, gray_noise), clip, rounds)


def random_generate_gaussian_noise_pt(img: Tensor, sigma_range: Range = (0, 10), gray_prob: float = 0) -> Tensor:
    return generate_gaussian_noise_pt(img, _draw(img, sigma_range), _draw(img) < gray_prob)


def random_add_gaussian_noise_pt(img: Tensor, sigma_range: Range = (0, 1.0), gray_prob: float = 0, clip: bool = True,
                                 rounds: bool = False) -> Tensor:
    return _finished(img + random_generate_gaussian_noise_pt(img, sigma_range, gray_prob), clip, rounds)


def generate_poisson_noise_pt(img: Tensor, scale: float | Tensor = 1.0, gray_noise: float | Tensor = 0) -> Tensor:
    """Of (B, C, H, W), RGB where noise is grey."""
    grey = _each(img, gray_noise) > 0
    noise = _poisson(img)
    if grey.any():
        noise = torch.where(grey, _poisson(torch.einsum('bchw,c->bhw', img, img.new_tensor(LUMA))[:, None]), noise)
    return noise * _each(img, scale)


def add_poisson_noise_pt(img: Tensor, scale: float | Tensor = 1.0, clip: bool = True, rounds: bool = False,
                         gray_noise: float | Tensor = 0) -> Tensor:
    return _finished(img + generate_poisson_noise_pt(img, scale, gray_noise), clip, rounds)


def random_generate_poisson_noise_pt(img: Tensor, scale_range: Range = (0, 1.0), gray_prob: float = 0) -> Tensor:
    return generate_poisson_noise_pt(img, _draw(img, scale_range), _draw(img) < gray_prob)


def random_add_poisson_noise_pt(img: Tensor, scale_range: Range = (0, 1.0), gray_prob: float = 0, clip: bool = True,
                                rounds: bool = False) -> Tensor:
    return _finished(img + random_generate_poisson_noise_pt(img, scale_range, gray_prob), clip, rounds)


def add_jpg_compression(img: np.ndarray, quality: float = 90) -> np.ndarray:
    """BGR (H, W, 3) as JPEG of this quality, in [0, 100], would store it; float32."""
    levels = (img.clip(0, 1) * 255).round().astype(np.uint8)
    data = cv2.imencode('.jpg', levels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    stored: np.ndarray = cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[assignment]  # it has just been written
    return stored.astype(np.float32) / 255


def random_add_jpg_compression(img: np.ndarray, quality_range: Range = (90, 100)) -> np.ndarray:
    return add_jpg_compression(img, random.uniform(*quality_range))


def _finished(img: Image, clip: bool, rounds: bool) -> Image:
    img = (img * 255.).round() / 255. if rounds else img
    return img.clip(0, 1) if clip else img


def _each(img: Tensor, value: float | Tensor) -> Tensor:
    """One value for each image, (B, 1, 1, 1) or (1, 1, 1, 1)."""
    return torch.as_tensor(value, dtype=img.dtype, device=img.device).view(-1, 1, 1, 1)


def _draw(img: Tensor, bounds: Range = (0, 1)) -> Tensor:
    """A number for each image, uniform in a range."""
    return torch.rand(len(img), dtype=img.dtype, device=img.device) * (bounds[1] - bounds[0]) + bounds[0]


def _poisson(img: Tensor) -> Tensor:
    values = (img * 255.).round().clip(0, 255) / 255
    white = values.new_tensor([2.**math.ceil(math.log2(len(torch.unique(x)))) for x in values]).view(-1, 1, 1, 1)
    return torch.poisson(values * white) / white - values
