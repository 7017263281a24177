"""The colour space HVI (Yan et al. 2025, arXiv 2502.20272): hue and saturation on a disc that shrinks in the dark."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from basicsr.archs.layers.full_precision import exact

_EPS = 1e-8


class HVI(nn.Module):
    """RGB to HVI and back. The disc's radius is C = sin(pi v / 2)^k at intensity v, with a learned k.

    Args:
        saturation: factor of the saturation on the way back, clipped at 1. gain: factor of the result.
    """

    def __init__(self, saturation: float = 1., gain: float = 1.):
        super().__init__()
        self.density_k = nn.Parameter(torch.full((1, ), 0.2))
        self.saturation, self.gain = saturation, gain

    def forward(self, rgb: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], clipped to it, to (B, 3, H, W): the disc's two axes and intensity; float32 at least."""
        with exact(rgb):
            rgb = _at_least_float32(rgb).clamp(0, 1)
            value, least = rgb.max(1).values, rgb.min(1).values  # whose gradients go to one channel, as published
            red, green, blue = rgb.unbind(1)
            range_ = value - least + _EPS
            hue = torch.where(blue == value, 4 + (red - green) / range_, 0.)
            hue = torch.where(green == value, 2 + (blue - red) / range_, hue)
            hue = torch.where(red == value, ((green - blue) / range_) % 6, hue)
            hue = torch.where(least == value, 0., hue) * (math.tau / 6)
            saturation = torch.where(value == 0, 0., (value - least) / (value + _EPS))
            radius = self._radius(value, self.density_k) * saturation
            return torch.stack([radius * hue.cos(), radius * hue.sin(), value], 1)

    def inverse(self, hvi: Tensor) -> Tensor:
        """(B, 3, H, W) of any range to RGB in [0, 1] times `gain`. No gradient reaches k, as published."""
        with exact(hvi):
            hvi = _at_least_float32(hvi)
            across, up = hvi[:, :2].clamp(-1, 1).unbind(1)
            value = hvi[:, 2].clamp(0, 1)
            radius = self._radius(value, self.density_k.detach()) + _EPS
            across, up = (across / radius).clamp(-1, 1), (up / radius).clamp(-1, 1)
            hue = torch.atan2(up + _EPS, across + _EPS) * (6 / math.tau)
            saturation = ((across**2 + up**2 + _EPS).sqrt() * self.saturation).clamp(0, 1)
            # of a channel its distance on the circle of hues decides; published are six sectors, which leave out a
            # hue that rounds to the end of the circle, and its pixel black
            places = ((hue + place) % 6 for place in (5, 3, 1))
            channels = [value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1) for k in places]
            return torch.stack(channels, 1) * self.gain

    @staticmethod
    def _radius(value: Tensor, k: Tensor) -> Tensor:
        return ((value * (math.pi / 2)).sin() + _EPS)**k


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
