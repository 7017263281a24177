"""Natural image quality evaluator (Mittal, Soundararajan and Bovik 2013), no reference needed. Lower is better."""
from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from basicsr.metrics.natural_scene import fit, grey, halve, mscn, neighbour_fits
from basicsr.metrics.protocol import check_size, prepare
from basicsr.utils.color import bgr2ycbcr
from basicsr.utils.registry import METRIC_REGISTRY
from basicsr.utils.values import AxisOrder, Natural

_BLOCK = 96
_LEAST = (_BLOCK, 2 * _BLOCK)  # two blocks, side by side or one above the other
_PARAMETERS = Path(__file__).parent / 'data' / 'niqe_pris_params.npz'


@METRIC_REGISTRY.register()
def calculate_niqe(img: np.ndarray, crop_border: Natural = 0, input_order: AxisOrder = 'HWC',
                   convert_to: Literal['y', 'gray'] = 'y', **kwargs) -> float:
    """Distance of an image's block statistics from those of pristine photographs, as BasicSR defines it.

    NaN for an image in which fewer than two blocks have any variation, such as one that is all black.

    Args:
        img: BGR or grey, values in [0, 255], uint8 or float.
        crop_border: pixels cut off at each side.
        input_order: 'HWC' or 'CHW'.
        convert_to: what is rounded to 8 bits and measured: 'y' is BT.601 luma (16 to 235), 'gray' is
            0.299 R + 0.587 G + 0.114 B (0 to 255), which IQA-PyTorch and the original take.

    Raises:
        ValueError: for an image smaller than 96x192, either way round: it holds two blocks of 96x96.
    """
    if convert_to not in ('y', 'gray'):
        raise ValueError(f"convert_to '{convert_to}' is not supported; 'y' or 'gray'")
    values = prepare(img, crop_border, input_order, luma=False, rounds=False, luma_rounds=False)
    check_size(values, _LEAST, 'NIQE')
    if convert_to == 'y' and values.shape[2] == 3:
        plane = np.rint(bgr2ycbcr(np.float32(values / 255), y_only=True) * np.float32(255)).astype(np.float64)
    else:
        plane = grey(values)
    rows, columns = (n // _BLOCK for n in plane.shape)
    plane = plane[:rows * _BLOCK, :columns * _BLOCK]
    features = np.concatenate([_features(plane, _BLOCK), _features(halve(plane), _BLOCK // 2)], axis=1)
    whole = features[~np.isnan(features).any(axis=1)]
    if len(whole) < 2:
        return math.nan
    pristine_mean, pristine_covariance = _pristine()
    mean = np.nanmean(features, axis=0)
    covariance = np.cov(whole, rowvar=False)
    difference = pristine_mean - mean
    return float(np.sqrt(difference @ np.linalg.pinv((pristine_covariance + covariance) / 2) @ difference))


calculate_niqe.better = 'lower'
calculate_niqe.least_size = lambda opt: _LEAST


def _features(plane: np.ndarray, side: int) -> np.ndarray:
    """18 features of each block, (blocks, 18)."""
    values = mscn(plane, cv2.BORDER_REPLICATE)
    out = []
    for y in range(0, plane.shape[0], side):
        for x in range(0, plane.shape[1], side):
            block = values[y:y + side, x:x + side]
            alone = fit(block)
            out.append([alone.shape, (alone.left_scale + alone.right_scale) / 2])
            for pair in neighbour_fits(block):
                out[-1] += [pair.shape, pair.mean, pair.left_scale, pair.right_scale]
    return np.array(out)


@cache
def _pristine() -> tuple[np.ndarray, np.ndarray]:
    with np.load(_PARAMETERS) as data:
        return data['mu_pris_param'].ravel(), data['cov_pris_param']
