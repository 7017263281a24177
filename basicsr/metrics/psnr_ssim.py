"""The module name of BasicSR for PSNR and SSIM, and both of tensors."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from basicsr.metrics.psnr import calculate_psnr
from basicsr.metrics.ssim import calculate_ssim
from basicsr.utils.color import rgb2ycbcr_pt

__all__ = ['calculate_psnr', 'calculate_psnr_pt', 'calculate_ssim', 'calculate_ssim_pt']


def calculate_psnr_pt(img: Tensor, img2: Tensor, crop_border: int, test_y_channel: bool = False, **kwargs) -> Tensor:
    """PSNR in dB of each image of two RGB batches (B, C, H, W) in [0, 1]; 1e-8 is added to the mean squared error."""
    a, b = (_cropped(x, crop_border).double() for x in (img, img2))
    if test_y_channel:
        a, b = rgb2ycbcr_pt(a, y_only=True), rgb2ycbcr_pt(b, y_only=True)
    return -10 * torch.log10(((a - b)**2).mean(dim=(1, 2, 3)) + 1e-8)


def calculate_ssim_pt(img: Tensor, img2: Tensor, crop_border: int, test_y_channel: bool = False, **kwargs) -> Tensor:
    """SSIM of each image of two RGB batches (B, C, H, W) in [0, 1], float64 (B,). Without gradients."""
    return torch.tensor([_ssim(a, b, crop_border, test_y_channel) for a, b in zip(img, img2)], dtype=torch.float64)


def _ssim(img: Tensor, img2: Tensor, crop_border: int, test_y_channel: bool) -> float:
    metric: Callable[..., float] = calculate_ssim
    a, b = ((x.detach().flip(0).permute(1, 2, 0) * 255).double().cpu().numpy() for x in (img, img2))  # BGR in [0, 255]
    return metric(a, b, crop_border, test_y_channel=test_y_channel)


def _cropped(x: Tensor, border: int) -> Tensor:
    return x[..., border:x.shape[-2] - border, border:x.shape[-1] - border]
