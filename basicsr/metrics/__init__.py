"""Image quality metrics, one per file. The only PSNR and SSIM in the tree; protocols are in `protocol.py`."""
from __future__ import annotations

from typing import Any

import numpy as np

from basicsr.metrics.protocol import PROTOCOLS, describe
from basicsr.metrics.psnr import calculate_psnr
from basicsr.metrics.ssim import calculate_ssim
from basicsr.registry import METRIC_REGISTRY

__all__ = ['PROTOCOLS', 'calculate_metric', 'calculate_psnr', 'calculate_ssim', 'describe', 'measure']


def calculate_metric(data: dict[str, Any], opt: dict[str, Any]) -> float:
    """`METRIC_REGISTRY[opt['type']](**data, **rest)`; `data` holds `img` and, with a ground truth, `img2`."""
    kwargs = {k: v for k, v in opt.items() if k != 'type'}
    return METRIC_REGISTRY.get(opt['type'])(**data, **kwargs)


def measure(result: np.ndarray, gt: np.ndarray | None, opt: dict[str, Any]) -> float:
    """A metric of RGB images (H, W, 3) in [0, 1], clamped first so that no stray value shifts the peak.

    Metrics get BGR images in [0, 255]: rounded to uint8, or unrounded where the option `protocol` decides.
    """
    images = [np.clip(x, 0, 1)[..., ::-1] * 255. for x in (result, gt) if x is not None]
    if 'protocol' not in opt:
        images = [np.rint(x).astype(np.uint8) for x in images]
    return calculate_metric(dict(zip(('img', 'img2'), images)), opt)
