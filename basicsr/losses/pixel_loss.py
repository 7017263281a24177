"""Losses that compare images value by value. Inputs are (B, C, H, W); the result is a scalar unless reduction is 'none'."""
from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.losses.loss_util import full_precision, weight_reduce_loss
from basicsr.utils.color import rgb2ycbcr_pt
from basicsr.utils.logger import get_root_logger
from basicsr.utils.registry import LOSS_REGISTRY
from basicsr.utils.values import NonNegative, Positive, Reduction

_CHARBONNIER_EPS = {'basicsr': 1e-12, 'restormer': 1e-3}


class PixelLoss(nn.Module):
    """Base of the element-wise losses.

    Args:
        loss_weight: factor of the result.
        reduction: 'none', 'mean' or 'sum'.
        clamp: limit the prediction to [0, 1] first; values beyond have no gradient.
    """

    def __init__(self, loss_weight: NonNegative = 1.0, reduction: Reduction = 'mean', clamp: bool = False):
        super().__init__()
        if reduction not in ('none', 'mean', 'sum'):
            raise ValueError(f"reduction '{reduction}' is not supported; one of: none, mean, sum")
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.clamp = clamp

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        raise TypeError(f'{type(self).__name__} does not define its element-wise loss')

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None, **kwargs) -> Tensor:
        """`weight`: element weights, broadcast over channels when it has one."""
        pred = pred.clamp(0, 1) if self.clamp else pred
        return self.loss_weight * weight_reduce_loss(self.elementwise(pred, target), weight, self.reduction)


@LOSS_REGISTRY.register()
class L1Loss(PixelLoss):
    """Mean absolute error: |pred - target|."""

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(pred, target, reduction='none')


@LOSS_REGISTRY.register()
class MSELoss(PixelLoss):
    """Mean squared error: (pred - target)^2."""

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(pred, target, reduction='none')


@LOSS_REGISTRY.register()
class CharbonnierLoss(PixelLoss):
    """Smooth L1 (Charbonnier et al. 1994; Lai et al. 2017).

    Args:
        eps: None takes the published value of the form.
        form: 'basicsr' is sqrt((pred - target)^2 + eps), eps 1e-12. 'restormer' is the loss of the Restormer and
            Retinexformer code: mean of sqrt((pred - target)^2 + eps^2), eps 1e-3; it ignores loss_weight and reduction.
    """

    def __init__(self, loss_weight: NonNegative = 1.0, reduction: Reduction = 'mean', eps: Positive | None = None,
                 form: Literal['basicsr', 'restormer'] = 'basicsr'):
        if form not in _CHARBONNIER_EPS:
            raise ValueError(f"form '{form}' is not supported; one of: {', '.join(_CHARBONNIER_EPS)}")
        if form == 'restormer' and (loss_weight, reduction) != (1, 'mean'):
            get_root_logger().warning('CharbonnierLoss: form restormer ignores loss_weight and reduction')
            loss_weight, reduction = 1.0, 'mean'
        super().__init__(loss_weight, reduction)
        eps = _CHARBONNIER_EPS[form] if eps is None else eps
        self.under_root = eps**2 if form == 'restormer' else eps

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return torch.sqrt((pred - target)**2 + self.under_root)


@LOSS_REGISTRY.register()
class WeightedTVLoss(PixelLoss):
    """Total variation of the prediction: L1 distance of vertical plus that of horizontal neighbours.

    Each direction is reduced on its own, so with 'mean' the two means are added.
    """

    def __init__(self, loss_weight: NonNegative = 1.0, reduction: Literal['mean', 'sum'] = 'mean'):
        if reduction not in ('mean', 'sum'):
            raise ValueError(f"reduction '{reduction}' is not supported; one of: mean, sum")
        super().__init__(loss_weight, reduction)

    def forward(self, pred: Tensor, target: Tensor | None = None, weight: Tensor | None = None, **kwargs) -> Tensor:
        """`target` is not read. `weight`: per pixel, applied to its difference from the next one below and right."""
        above, left = (None, None) if weight is None else (weight[..., :-1, :], weight[..., :-1])
        rows = weight_reduce_loss((pred[..., 1:, :] - pred[..., :-1, :]).abs(), above, self.reduction)
        columns = weight_reduce_loss((pred[..., 1:] - pred[..., :-1]).abs(), left, self.reduction)
        return self.loss_weight * (rows + columns)


@LOSS_REGISTRY.register()
class PSNRLoss(nn.Module):
    """Negative PSNR in dB, averaged over the batch: 10 log10(mean((pred - target)^2) + 1e-8) for images in [0, 1].

    Args:
        loss_weight: factor of the result.
        toY: compare the luma of RGB images alone.
    """

    def __init__(self, loss_weight: NonNegative = 1.0, reduction: Literal['mean'] = 'mean', toY: bool = False):
        super().__init__()
        if reduction != 'mean':
            raise ValueError("PSNRLoss supports reduction 'mean' only")
        self.loss_weight, self.to_y = loss_weight, toY

    def forward(self, pred: Tensor, target: Tensor, **kwargs) -> Tensor:
        if self.to_y:
            pred, target = rgb2ycbcr_pt(pred, y_only=True), rgb2ycbcr_pt(target, y_only=True)
        mse = ((pred - target)**2).mean(dim=(1, 2, 3))
        return self.loss_weight * 10 * torch.log10(mse + 1e-8).mean()


@LOSS_REGISTRY.register()
class PSNRHingeLoss(nn.Module):
    """How far the PSNR of the whole batch is from `target_psnr`, as a part of it (MASR-Net).

    max(0, 1 - PSNR / target), PSNR = -10 log10(mean((pred - target)^2)) for images in [0, 1], not below 0 dB; there is
    no gradient at 0 dB and from the target on.

    Args:
        loss_weight: factor of the result.
        target_psnr: in dB.
    """

    of_whole_batch = True

    def __init__(self, loss_weight: NonNegative = 1.0, target_psnr: Positive = 50.0):
        super().__init__()
        if target_psnr <= 0:
            raise ValueError(f'target_psnr must be above 0, not {target_psnr}')
        self.loss_weight, self.target_psnr = loss_weight, target_psnr

    @full_precision
    def forward(self, pred: Tensor, target: Tensor, **kwargs) -> Tensor:
        # limits of the error instead of the PSNR: equal images would have an infinite one
        mse = F.mse_loss(pred, target).clamp(10**(-self.target_psnr / 10), 1)
        return self.loss_weight * (1 + 10 * torch.log10(mse) / self.target_psnr)
