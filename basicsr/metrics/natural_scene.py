"""Statistics of natural scenes (Mittal et al. 2012, 2013), which NIQE and BRISQUE measure an image by.

An image's local mean and contrast are divided out; the values that remain (MSCN coefficients) and the products of
neighbours follow generalised Gaussian distributions, whose parameters are the features.
"""
from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

_TAPS = cv2.getGaussianKernel(7, 7 / 6).ravel()
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # right, below, and the two below aslant


class Fit(NamedTuple):
    """An asymmetric generalised Gaussian: its shape, mean, and the scale and deviation of either side."""
    shape: float
    mean: float
    left_scale: float
    right_scale: float
    left_std: float
    right_std: float


def grey(img: np.ndarray) -> np.ndarray:
    """BGR or grey (H, W, C) in [0, 255] to its Y of YIQ, rounded to 8 bits, (H, W) float64."""
    if img.shape[2] == 1:
        return np.rint(img[..., 0])
    # 0.299 R + 0.587 G + 0.114 B often ends in .5: where it is rounded to depends on float32, as in other programs
    return np.rint(cv2.cvtColor(np.float32(img / 255), cv2.COLOR_BGR2GRAY) * np.float32(255)).astype(np.float64)


def mscn(img: np.ndarray, border: int) -> np.ndarray:
    """(x - mean) / (deviation + 1) in a 7x7 Gaussian window of sigma 7/6; (H, W) in [0, 255], `border` as OpenCV's."""
    mean, square = (cv2.sepFilter2D(x, cv2.CV_64F, _TAPS, _TAPS, borderType=border) for x in (img, img * img))
    # in float32, as BasicSR: flat areas become 0 instead of the sign of a rounding error, which the fits would count
    img, mean, square = (x.astype(np.float32) for x in (img, mean, square))
    return ((img - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)).astype(np.float64)


def halve(img: np.ndarray) -> np.ndarray:
    """(H, W) to half its size, rounded up, as MATLAB's `imresize`: cubic kernel (a = -1/2) stretched against aliasing."""
    x = np.abs(np.arange(8) - 3.5) / 2
    taps = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2) / 2
    out = cv2.sepFilter2D(img, cv2.CV_64F, taps, taps, anchor=(3, 3), borderType=cv2.BORDER_REFLECT)
    return out[::2, ::2]


def neighbour_fits(values: np.ndarray) -> list[Fit]:
    """Fits to the products of each MSCN coefficient with its neighbours in four directions; edges wrap around."""
    return [fit(values * np.roll(values, shift, axis=(0, 1))) for shift in _NEIGHBOURS]


def fit(values: np.ndarray) -> Fit:
    """Moment matching; NaN where one side is empty."""
    left_std, right_std = (_rms(side) for side in (values[values < 0], values[values > 0]))
    with np.errstate(divide='ignore', invalid='ignore'):
        skew = np.float64(left_std) / right_std
        ratio = np.mean(np.abs(values))**2 / np.mean(values**2)
    ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1)**2
    shapes, ratios, scales, means = shape_table()
    i = int(np.argmin(np.abs(ratios - ratio)))  # the first where the ratio is NaN
    left, right = left_std * scales[i], right_std * scales[i]
    return Fit(shapes[i], (right - left) * means[i], left, right, left_std, right_std)


@cache
def shape_table() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each shape a in 0.2, 0.201, ..., 10, with G the gamma function and one side's deviation 1:

    a; (E|x|)^2 / E x^2 = G(2/a)^2 / (G(1/a) G(3/a)); the scale sqrt(G(1/a) / G(3/a)); G(2/a) / G(1/a).
    """
    shapes = np.arange(200, 10001) / 1000
    one, two, three = (np.array([math.lgamma(k / a) for a in shapes]) for k in (1, 2, 3))
    return shapes, np.exp(2 * two - one - three), np.exp((one - three) / 2), np.exp(two - one)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else math.nan
