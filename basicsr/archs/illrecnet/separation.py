"""Illumination and reflectance of an image, separated by a Gaussian in the logarithmic domain (IllRecNet)."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.utils.precision import at_least_float32


class Separation(nn.Module):
    """Illumination, the exponential of the Gaussian-blurred logarithm of a channel, and reflectance, what remains.

    `clamp_reflectance` limits reflectance to 1, as the published code does: pixels brighter than their surroundings
    saturate. The Gaussian is a parameter, because checkpoints hold it; it learns only when `trainable`.
    """

    def __init__(self, kernel_size: int, sigma: float, trainable: bool, clamp_reflectance: bool):
        super().__init__()
        self.reach, self.clamp_reflectance = kernel_size // 2, clamp_reflectance
        self.conv_y = nn.Conv2d(1, 1, (kernel_size, 1), bias=False)
        self.conv_x = nn.Conv2d(1, 1, (1, kernel_size), bias=False)
        distance = torch.arange(kernel_size) - self.reach
        gaussian = torch.exp(-distance.square() / (2 * sigma**2))
        for conv in (self.conv_y, self.conv_x):
            conv.weight = nn.Parameter((gaussian / gaussian.sum()).view_as(conv.weight), requires_grad=trainable)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in [0, 1] to two of the same shape and dtype, computed in float32 at least."""
        exact = at_least_float32(x.dtype)
        with torch.autocast(x.device.type, enabled=False):  # half precision has an error of 0.8 % after the exponential
            log = x.to(exact).clamp(min=1e-6).log()
            # reflection needs more pixels than it adds
            mode = 'reflect' if self.reach < min(x.shape[-2:]) else 'replicate'
            blurred = F.pad(log, (self.reach, ) * 4, mode).flatten(0, 1).unsqueeze(1)
            blurred = F.conv2d(blurred, self.conv_y.weight.to(exact))
            blurred = F.conv2d(blurred, self.conv_x.weight.to(exact)).view(x.shape)
            illumination, reflectance = blurred.exp().clamp(max=1), (log - blurred).exp()
            if self.clamp_reflectance:
                reflectance = reflectance.clamp(max=1)
        return illumination.to(x.dtype), reflectance.to(x.dtype)
