"""Losses on edges."""
from __future__ import annotations

from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from basicsr.losses.loss_util import full_precision
from basicsr.losses.pixel_loss import PixelLoss
from basicsr.utils.registry import LOSS_REGISTRY
from basicsr.utils.values import NonNegative, Reduction

_PYRAMID = (0.05, 0.25, 0.4, 0.25, 0.05)  # Burt and Adelson 1983


@LOSS_REGISTRY.register()
class EdgeLoss(PixelLoss):
    """How far the edges of two images differ. Every channel is filtered on its own, with its border pixels repeated.

    Args:
        filter: 'sobel', not normalised: Sx = [-1 0 1; -2 0 2; -1 0 1] and Sy = Sx^T, whose differences are added.
            'laplacian': what a level of the Laplacian pyramid keeps, x minus its blurred self halved and doubled in size
            (MPRNet, CIDNet, DarkIR).
        criterion: 'l1', the absolute difference, or 'l2', its square.
    """

    def __init__(self, loss_weight: NonNegative = 1.0, reduction: Reduction = 'mean',
                 filter: Literal['sobel', 'laplacian'] = 'sobel', criterion: Literal['l1', 'l2'] = 'l1'):
        super().__init__(loss_weight, reduction)
        if filter not in _FILTERS or criterion not in ('l1', 'l2'):
            raise ValueError(f"filter is sobel or laplacian and criterion l1 or l2, not '{filter}' and '{criterion}'")
        self.filter, self.criterion = filter, criterion

    @full_precision
    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        # the filters are linear: the difference of the edges is the edges of the difference
        edges = _FILTERS[self.filter](pred - target)
        found = [e.abs() if self.criterion == 'l1' else e.square() for e in edges]
        return sum(found[1:], found[0])


def _sobel(x: Tensor) -> list[Tensor]:
    padded = F.pad(x, (1, 1, 1, 1), mode='replicate')
    across, down = padded[..., 2:] - padded[..., :-2], padded[..., 2:, :] - padded[..., :-2, :]
    return [
        across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :],
        down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    ]


def _laplacian(x: Tensor) -> list[Tensor]:
    kept = torch.zeros_like(x)
    kept[..., ::2, ::2] = 4 * _blurred(x)[..., ::2, ::2]
    return [x - _blurred(kept)]


def _blurred(x: Tensor) -> Tensor:
    taps = _taps(x.dtype, x.device)
    planes = F.pad(x, (2, 2, 2, 2), mode='replicate').flatten(0, 1)[:, None]
    return F.conv2d(F.conv2d(planes, taps), taps.transpose(2, 3)).view_as(x)


@cache
def _taps(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Made once: copying numbers to a GPU makes the host wait for it."""
    return torch.tensor(_PYRAMID, dtype=dtype, device=device).view(1, 1, -1, 1)


_FILTERS = {'sobel': _sobel, 'laplacian': _laplacian}
