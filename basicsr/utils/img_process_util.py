"""Filtering and sharpening of image batches, by the names that code for BasicSR imports."""
from __future__ import annotations

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['USMSharp', 'filter2D', 'usm_sharp']


def filter2D(img: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every channel of (B, C, H, W) with a kernel (1, k, k), or with one for each image (B, k, k).

    k is odd; borders are reflected. Raises `ValueError` for an even k.
    """
    b, c, h, w = img.shape
    k = kernel.shape[-1]
    if k % 2 == 0:
        raise ValueError(f'the kernel must have an odd side, not {k}')
    padded = F.pad(img, (k // 2, ) * 4, mode='reflect')
    weight = kernel.to(img).expand(b, k, k).repeat_interleave(c, dim=0).unsqueeze(1)
    return F.conv2d(padded.reshape(1, b * c, *padded.shape[-2:]), weight, groups=b * c).view(b, c, h, w)


def usm_sharp(img: Tensor, kernel: Tensor, weight: float = 0.5, threshold: float = 10) -> Tensor:
    """Unsharp masking of (B, C, H, W) in [0, 1] where the blurred image, by `kernel`, differs by more than `threshold` of 255.

    weight: share of that difference which is added. The mask is blurred as well, so that no edge of it is seen.
    """
    difference = img - filter2D(img, kernel)
    mask = filter2D((difference.abs() * 255 > threshold).to(img.dtype), kernel)
    return img + mask * ((img + weight * difference).clamp(0, 1) - img)


class USMSharp(nn.Module):
    """`usm_sharp` with a Gaussian kernel.

    Args:
        radius: side of the kernel; an even one is made odd by 1 more.
        sigma: of the Gaussian; 0 chooses it by the radius, as OpenCV does.
    """
    kernel: Tensor

    def __init__(self, radius: int = 50, sigma: float = 0):
        super().__init__()
        self.radius = radius + 1 - radius % 2
        taps = torch.from_numpy(cv2.getGaussianKernel(self.radius, sigma)).float()
        self.register_buffer('kernel', (taps @ taps.T)[None])

    def forward(self, img: Tensor, weight: float = 0.5, threshold: float = 10) -> Tensor:
        return usm_sharp(img, self.kernel, weight, threshold)
