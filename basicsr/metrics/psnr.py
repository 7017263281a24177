"""Peak signal-to-noise ratio."""
from __future__ import annotations

from typing import Literal

import numpy as np

from basicsr.metrics.protocol import describe_protocol, get_protocol, prepared_pair
from basicsr.utils.registry import METRIC_REGISTRY
from basicsr.utils.values import AxisOrder, Natural


@METRIC_REGISTRY.register()
def calculate_psnr(img: np.ndarray, img2: np.ndarray, crop_border: Natural = 0, input_order: AxisOrder = 'HWC',
                   test_y_channel: bool = False,
                   protocol: Literal['basicsr', 'restormer-rgb3d', 'retinexformer', 'matlab-y', 'all-in-one',
                                     'all-in-one-uniform', 'pyiqa', 'cidnet', 'cidnet-gt-mean', 'darkir', 'nafnet',
                                     'nafnet-8bit'] | None = None, **kwargs) -> float:
    """10 log10(255^2 / MSE) in dB, the MSE over all pixels and channels together, in float64.

    Args:
        img, img2: result and ground truth, BGR or grey, values in [0, 255], uint8 or float.
        crop_border: pixels cut off at each side before comparing.
        input_order: 'HWC' or 'CHW'.
        test_y_channel: compare BT.601 luma (not rounded, as BasicSR does).
        protocol: a name in `PROTOCOLS`; it decides rounding and colour space. None: the images as they are.

    Returns:
        dB; infinity for equal images (100 in the protocol 'retinexformer', 80 in 'pyiqa', 128.1 in 'cidnet').

    Raises:
        ValueError: for images of different shapes.
    """
    rules = get_protocol(protocol) if protocol else None
    a, b = prepared_pair(img, img2, crop_border, input_order, test_y_channel, rules, 'psnr')
    mse = np.mean((a - b)**2)
    if mse == 0:
        return rules.identical if rules else float('inf')
    offset = rules.mse_offset * 255**2 if rules else 0.
    return float(10 * np.log10(255.**2 / (mse + offset)))


calculate_psnr.describe = describe_protocol
