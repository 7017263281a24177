"""A loss on the colours of CIE L*a*b*."""
from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from basicsr.losses.loss_util import full_precision
from basicsr.losses.pixel_loss import PixelLoss
from basicsr.utils.registry import LOSS_REGISTRY

# linear sRGB to XYZ, and the white of D65
_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)


@LOSS_REGISTRY.register()
class LabLoss(PixelLoss):
    """|a* - a*'| + |b* - b*'| of RGB images in [0, 1], lightness left out (MASR-Net, github.com/Britark/MASR-Net).

    Both images are clamped to [0, 1] first. Values are of the order of 10, those of bad images of 50 and more.
    """

    @full_precision
    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(B, 1, H, W)."""
        return (_ab(pred) - _ab(target)).abs().sum(dim=1, keepdim=True)


@cache
def _matrix(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Made once: copying numbers to a GPU makes the host wait for it."""
    xyz, white = (torch.tensor(v, dtype=dtype, device=device) for v in (_XYZ, _WHITE))
    return xyz / white[:, None]


def _ab(rgb: Tensor) -> Tensor:
    """RGB (B, 3, H, W) to a* and b*, (B, 2, H, W), in [-128, 128]."""
    c = rgb.clamp(0, 1)
    linear = torch.where(c > 0.04045, ((c + 0.055) / 1.055)**2.4, c / 12.92)
    t = torch.einsum('ij,bjhw->bihw', _matrix(linear.dtype, linear.device), linear)
    t = t.clamp(1e-8, 10)  # the cube root has no slope at 0
    x, y, z = torch.where(t > 0.008856, t**(1 / 3), 7.787 * t + 16 / 116).unbind(dim=1)
    return torch.stack([500 * (x - y), 200 * (y - z)], dim=1).clamp(-128, 128)
