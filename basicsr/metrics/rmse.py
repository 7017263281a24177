"""Root mean squared error."""
from __future__ import annotations

import numpy as np

from basicsr.metrics.protocol import prepared_pair
from basicsr.utils.registry import METRIC_REGISTRY
from basicsr.utils.values import AxisOrder, Natural


@METRIC_REGISTRY.register()
def calculate_rmse(img: np.ndarray, img2: np.ndarray, crop_border: Natural = 0, input_order: AxisOrder = 'HWC',
                   test_y_channel: bool = False, **kwargs) -> float:
    """Square root of the mean squared difference over all pixels and channels, in float64; 0 to 255.

    Arguments as `calculate_psnr`. Raises `ValueError` for images of different shapes.
    """
    a, b = prepared_pair(img, img2, crop_border, input_order, test_y_channel, None, 'rmse')
    return float(np.sqrt(np.mean((a - b)**2)))


calculate_rmse.better = 'lower'
