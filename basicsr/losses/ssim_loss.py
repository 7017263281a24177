"""Structural similarity as a loss, for images in [0, 1]: 11-tap Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03."""
from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from basicsr.losses.loss_util import full_precision
from basicsr.losses.pixel_loss import PixelLoss
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger
from basicsr.utils.registry import LOSS_REGISTRY
from basicsr.utils.values import NonNegative, Reduction

_SIZE, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# contrast-structure can be negative, a product with zero has no gradient, and powers below one are steep near it
_FLOOR = 1e-4

Padding = Literal['valid', 'replicate', 'reflect', 'zeros']


def ssim_maps(pred: Tensor, target: Tensor, padding: Padding = 'valid') -> tuple[Tensor, Tensor]:
    """SSIM and its contrast-structure factor for each window, (B, C, h, w) each (Wang et al. 2004).

    Args:
        pred, target: (B, C, H, W) in [0, 1].
        padding: 'valid' takes the windows inside the image, h = H - 10; otherwise h = H.

    Raises:
        UserError: for images that are too small for the window.
    """
    least = {'valid': _SIZE, 'replicate': 1, 'reflect': _SIZE // 2 + 1, 'zeros': 1}[padding]
    if min(pred.shape[-2:]) < least:
        height, width = pred.shape[-2:]
        raise UserError(
            f'SSIM (padding {padding}) needs at least {least}x{least} pixels, the patch has {height}x{width}')
    moments = torch.stack([pred, target, pred * pred, target * target, pred * target])
    mean_p, mean_t, pp, tt, pt = _window_means(moments, padding)
    var_p, var_t, cov = pp - mean_p**2, tt - mean_t**2, pt - mean_p * mean_t
    contrast_structure = (2 * cov + _C2) / (var_p + var_t + _C2)
    return (2 * mean_p * mean_t + _C1) / (mean_p**2 + mean_t**2 + _C1) * contrast_structure, contrast_structure


def _window_means(x: Tensor, padding: str) -> Tensor:
    """Gaussian mean of each pixel's window over the last two axes."""
    radius = _SIZE // 2
    taps = torch.exp(-torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)**2 / (2 * _SIGMA**2))
    taps = (taps / taps.sum()).view(1, 1, -1, 1)
    planes = x.reshape(-1, 1, *x.shape[-2:])
    if padding != 'valid':
        planes = F.pad(planes, (radius, ) * 4, mode='constant' if padding == 'zeros' else padding)
    planes = F.conv2d(F.conv2d(planes, taps), taps.transpose(2, 3))
    return planes.reshape(*x.shape[:-2], *planes.shape[-2:])


@LOSS_REGISTRY.register()
class SSIMLoss(PixelLoss):
    """1 - SSIM of each channel (Wang et al. 2004), images in [0, 1].

    Args:
        padding: 'valid' (windows inside the image, at least 11x11 pixels), 'replicate', 'reflect' or 'zeros'.
        clamp_map: clamp the SSIM of each window to [0, 1]; negative ones get no gradient.
    """

    def __init__(self, loss_weight: NonNegative = 1.0, reduction: Reduction = 'mean',
                 padding: Literal['valid', 'replicate', 'reflect', 'zeros'] = 'valid', clamp_map: bool = False):
        super().__init__(loss_weight, reduction)
        if padding not in ('valid', 'replicate', 'reflect', 'zeros'):
            raise ValueError(f"padding '{padding}' is not supported; one of: valid, replicate, reflect, zeros")
        self.padding, self.clamp_map = padding, clamp_map

    @full_precision
    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        ssim = ssim_maps(pred, target, self.padding)[0]
        return 1 - (ssim.clamp(0, 1) if self.clamp_map else ssim)


@LOSS_REGISTRY.register()
class MSSSIMLoss(PixelLoss):
    """1 - MS-SSIM of each channel (Wang, Simoncelli, Bovik 2003), images in [0, 1], reduced over images and channels.

    Windows inside the image; each scale halves the size by averaging 2x2 pixels, rounding up. Five scales need 161
    pixels; smaller patches use fewer scales, whose weights are raised to the same sum. A scale whose mean is below
    1e-4 counts as 1e-4, so that one scale that disagrees does not take the gradient from the others.

    Args:
        clamp: clamp the prediction to [0, 1] first; values outside get no gradient from this loss.
    """

    def __init__(self, loss_weight: NonNegative = 1.0, reduction: Reduction = 'mean', clamp: bool = False):
        super().__init__(loss_weight, reduction)
        self.clamp = clamp
        self._told: set[int] = set()

    @full_precision
    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(B, C)."""
        pred = pred.clamp(0, 1) if self.clamp else pred
        weights = self._scale_weights(*pred.shape[-2:])
        product: Any = 1.
        for i, weight in enumerate(weights):
            ssim, contrast_structure = ssim_maps(pred, target)
            last = i == len(weights) - 1
            product = product * (ssim if last else contrast_structure).mean((2, 3)).clamp(min=_FLOOR)**weight
            if not last:
                pred, target = (F.avg_pool2d(x, 2, ceil_mode=True) for x in (pred, target))
        return 1 - product

    def _scale_weights(self, height: int, width: int) -> list[float]:
        """Weights of the scales that the window fits into; says once when they are fewer than five."""
        side, count = min(height, width), 1
        while count < len(_SCALE_WEIGHTS) and -(-side // 2**count) >= _SIZE:
            count += 1
        if count < len(_SCALE_WEIGHTS) and count not in self._told:
            self._told.add(count)
            get_root_logger().warning(f'MSSSIMLoss: patches of {height}x{width} pixels allow {count} of'
                                      f' {len(_SCALE_WEIGHTS)} scales; their weights are raised to the same sum')
        used = _SCALE_WEIGHTS[:count]
        return [w * sum(_SCALE_WEIGHTS) / sum(used) for w in used]
