"""A loss on image gradients."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from basicsr.losses.loss_util import full_precision
from basicsr.losses.pixel_loss import PixelLoss
from basicsr.utils.registry import LOSS_REGISTRY


@LOSS_REGISTRY.register()
class EdgeLoss(PixelLoss):
    """|Sx pred - Sx target| + |Sy pred - Sy target| with the Sobel filters Sx = [-1 0 1; -2 0 2; -1 0 1], Sy = Sx^T.

    Every channel is filtered on its own, not normalised, with its border pixels repeated.
    """

    @full_precision
    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        # the filters are linear: the difference of the edges is the edges of the difference
        padded = F.pad(pred - target, (1, 1, 1, 1), mode='replicate')
        across, down = padded[..., 2:] - padded[..., :-2], padded[..., 2:, :] - padded[..., :-2, :]
        along_x = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
        along_y = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
        return along_x.abs() + along_y.abs()
