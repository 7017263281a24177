"""A loss on the spectrum of images."""
from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from basicsr.losses.loss_util import full_precision
from basicsr.losses.pixel_loss import PixelLoss
from basicsr.utils.registry import LOSS_REGISTRY
from basicsr.utils.values import NonNegative, Reduction


@LOSS_REGISTRY.register()
class FFTLoss(PixelLoss):
    """How far the half spectra rfft2 of two images differ, each channel on its own and not normalised.

    Args:
        of: 'complex' compares real and imaginary parts (MoCE-IR), 'magnitude' their absolute values (DarkIR).
        criterion: 'l1', the absolute difference, or 'l2', its square.
    """

    def __init__(self, loss_weight: NonNegative = 1.0, reduction: Reduction = 'mean',
                 of: Literal['complex', 'magnitude'] = 'complex', criterion: Literal['l1', 'l2'] = 'l1'):
        super().__init__(loss_weight, reduction)
        if of not in ('complex', 'magnitude') or criterion not in ('l1', 'l2'):
            raise ValueError(f"of is complex or magnitude and criterion l1 or l2, not '{of}' and '{criterion}'")
        self.of, self.criterion = of, criterion

    @full_precision
    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """(B, C, H, W // 2 + 1), with a last axis of both parts where these are compared."""
        if self.of == 'complex':
            difference = torch.view_as_real(torch.fft.rfft2(pred - target))  # which is linear
        else:
            difference = torch.fft.rfft2(pred).abs() - torch.fft.rfft2(target).abs()
        return difference.abs() if self.criterion == 'l1' else difference.square()
