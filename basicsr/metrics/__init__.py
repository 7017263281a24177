"""Image quality metrics, one per file. The only PSNR and SSIM in the tree; protocols are in `protocol.py`.

A metric is a registered function, which says of itself, each only where it is so:

    a parameter `img2`      it compares with a ground truth; the other image is `img`, or `img1` in the Restormer family
    a parameter `device`    it is a network, and is told where the model runs
    `better = 'lower'`      an attribute: small values are good
    `describe`              an attribute, a function of the option block: the words printed beside the number
"""
from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from basicsr.metrics.brisque import calculate_brisque
from basicsr.metrics.delta_e import calculate_delta_e
from basicsr.metrics.lpips import calculate_lpips
from basicsr.metrics.mae import calculate_mae
from basicsr.metrics.niqe import calculate_niqe
from basicsr.metrics.protocol import PROTOCOLS
from basicsr.metrics.psnr import calculate_psnr
from basicsr.metrics.rmse import calculate_rmse
from basicsr.metrics.ssim import calculate_ssim
from basicsr.registry import METRIC_REGISTRY
from basicsr.utils.img import to_bytes

__all__ = [
    'PROTOCOLS', 'better', 'calculate_brisque', 'calculate_delta_e', 'calculate_lpips', 'calculate_mae',
    'calculate_metric', 'calculate_niqe', 'calculate_psnr', 'calculate_rmse', 'calculate_ssim', 'describe', 'measure',
    'needs_gt'
]


def better(opt: Mapping[str, Any]) -> str:
    """'higher' or 'lower': what the option block of a metric says, else what the metric itself does."""
    return opt.get('better', '') or getattr(METRIC_REGISTRY.get(opt['type']), 'better', 'higher')


def needs_gt(opt: Mapping[str, Any]) -> bool:
    """Whether the metric of an option block compares with a ground truth."""
    return 'img2' in inspect.signature(METRIC_REGISTRY.get(opt['type'])).parameters


def describe(opt: Mapping[str, Any]) -> str:
    """The words printed beside the number of an option block: its protocol, for most nothing."""
    words = getattr(METRIC_REGISTRY.get(opt['type']), 'describe', None)
    return words(opt) if words else ''


def calculate_metric(data: dict[str, Any], opt: Mapping[str, Any]) -> float:
    """`METRIC_REGISTRY[opt['type']](**data, **rest)`; `data` holds `img` and, with a ground truth, `img2`.

    What the block says beside arguments, `better`, goes to metrics that take any keyword.
    """
    metric = METRIC_REGISTRY.get(opt['type'])
    parameters = inspect.signature(metric).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    kwargs = {k: v for k, v in opt.items() if k != 'type' and (takes_all or k in parameters or k != 'better')}
    if 'img1' in parameters and 'img' not in parameters:
        data = {'img1' if k == 'img' else k: v for k, v in data.items()}
    return metric(**data, **kwargs)


def measure(result: np.ndarray, gt: np.ndarray | None, opt: Mapping[str, Any], device: Any = None) -> float:
    """A metric of RGB images (H, W, 3) in [0, 1], clamped first so that no stray value shifts the peak.

    Metrics get BGR images in [0, 255]: rounded to uint8, or unrounded where a `protocol` (None is none) decides. `device`
    is where metrics that are networks run, unless their options say it. Of values that are not finite the result is NaN.
    """
    images = [x for x in (result, gt) if x is not None]
    if not all(np.isfinite(x).all() for x in images):
        return math.nan
    if opt.get('protocol') is None:
        images = [to_bytes(x) for x in images]
    else:
        images = [np.clip(np.asarray(x, np.float64), 0, 1)[..., ::-1] * 255. for x in images]
    if device is not None and 'device' in inspect.signature(METRIC_REGISTRY.get(opt['type'])).parameters:
        opt = {'device': str(device), **opt}
    return calculate_metric(dict(zip(('img', 'img2'), images)), opt)
