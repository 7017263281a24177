"""Image quality metrics, one per file. The only PSNR and SSIM in the tree; protocols are in `protocol.py`.

A metric is a registered function, which says of itself, each only where it is so:

    a parameter `img2`      it compares with a ground truth; the other image is `img`, or `img1` in the Restormer family
    a parameter `device`    it is a network, and is told where the model runs
    `better = 'lower'`      an attribute: small values are good
    `describe`              an attribute, a function of the option block: the words printed beside the number
    `least_size`            an attribute, a function of the option block: (shorter, longer) side of the smallest image
                            that it measures, in pixels; borders that `crop_border` cuts off come on top
"""
from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from basicsr.metrics.brisque import calculate_brisque
from basicsr.metrics.delta_e import calculate_delta_e
from basicsr.metrics.lpips import calculate_lpips
from basicsr.metrics.mae import calculate_mae
from basicsr.metrics.niqe import calculate_niqe
from basicsr.metrics.protocol import PROTOCOLS, get_protocol
from basicsr.metrics.psnr import calculate_psnr
from basicsr.metrics.rmse import calculate_rmse
from basicsr.metrics.ssim import calculate_ssim
from basicsr.registry import METRIC_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.img import to_bytes

__all__ = [
    'PROTOCOLS', 'better', 'calculate_brisque', 'calculate_delta_e', 'calculate_lpips', 'calculate_mae',
    'calculate_metric', 'calculate_niqe', 'calculate_psnr', 'calculate_rmse', 'calculate_ssim', 'describe',
    'is_measured', 'least_size', 'measure', 'needs_gt', 'too_small'
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


def least_size(opt: Mapping[str, Any]) -> tuple[int, int]:
    """Shorter and longer side of the smallest image that the metric of an option block measures, in pixels."""
    own = getattr(METRIC_REGISTRY.get(opt['type']), 'least_size', None)
    shorter, longer = own(opt) if own else (1, 1)
    border = 2 * (opt.get('crop_border') or 0)
    return shorter + border, longer + border


def is_measured(size: tuple[int, int], opt: Mapping[str, Any]) -> bool:
    """Whether an image of this size, (height, width) in either order, is large enough for the metric."""
    return all(side >= least for side, least in zip(sorted(size), least_size(opt)))


def too_small(size: tuple[int, int], metrics: Mapping[str, Mapping[str, Any]], labels: Sequence[str],
              scale: float = 1) -> str:
    """The rest of a sentence on an image, (height, width), that these of the metrics do not measure."""
    needs = []
    for label in labels:
        (shorter, longer), border = least_size(metrics[label]), metrics[label].get('crop_border')
        needs.append(f"'{label}' needs at least {shorter}x{longer}" + (f' with crop_border {border}' if border else ''))
    return f"{'is' if scale == 1 else f'at scale {scale:g} is'} {size[1]}x{size[0]} pixels, and {', '.join(needs)}"


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
    """A metric of RGB images (H, W, 3) in [0, 1], clamped first, but for protocols that say otherwise.

    Metrics get BGR images in [0, 255]: rounded to uint8, or unrounded where a `protocol` (None is none) decides. `device`
    is where metrics that are networks run, unless their options say it. Of values that are not finite the result is NaN.
    """
    images = [x for x in (result, gt) if x is not None]
    if not all(np.isfinite(x).all() for x in images):
        return math.nan
    if opt.get('protocol') is None:
        images = [to_bytes(x) for x in images]
    else:
        images = [np.asarray(x, np.float64) for x in images]
        if get_protocol(opt['protocol']).clamps:
            images = [np.clip(x, 0, 1) for x in images]
        images = [x[..., ::-1] * 255. for x in images]
    if device is not None and 'device' in inspect.signature(METRIC_REGISTRY.get(opt['type'])).parameters:
        opt = {'device': str(device), **opt}
    value: Any = calculate_metric(dict(zip(('img', 'img2'), images)), opt)
    if not isinstance(value, (int, float, np.number)) and not (hasattr(value, 'numel') and value.numel() == 1):
        raise UserError(f"metric '{opt['type']}' gives a {type(value).__name__}, not a number")
    return float(value)
