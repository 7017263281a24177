"""Low-rank replacements of 1x1 convolutions, initialised freshly: not adapters, nothing is decomposed or frozen."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from basicsr.archs.layers.gelu import GELU, gelu
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import BatchNorm2d, recompute
from basicsr.archs.layers.whole_image import ImageMean


class BetterLoRaConv(nn.Module):
    """1x1 to `rank` channels, 3x3 depthwise, GELU, 1x1 to `out_channels`."""

    def __init__(self, in_channels: int, out_channels: int, rank: int, bias: bool):
        super().__init__()
        self.conv1 = PointwiseConv2d(in_channels, rank, bias=False)
        self.dwconv = nn.Conv2d(rank, rank, 3, padding=1, groups=rank, bias=False)
        self.conv2 = PointwiseConv2d(rank, out_channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return recompute(lambda y: self.conv2(gelu(y)), self.dwconv(self.conv1(x)))


class SpatialAwareLoRaConv(nn.Module):
    """1x1 to `rank` channels d; d + s(d) * w(d); 1x1 to `out_channels`.

    s: depthwise 3x3, batch norm, GELU, depthwise 3x3. w: a weight for each channel from the mean of s over the image.
    """

    def __init__(self, in_channels: int, out_channels: int, rank: int, bias: bool):
        super().__init__()
        self.conv_down = PointwiseConv2d(in_channels, rank, bias=False)
        self.spatial_context = nn.Sequential(
            nn.Conv2d(rank, rank, 3, padding=1, groups=rank, bias=False),
            BatchNorm2d(rank),
            GELU(),
            nn.Conv2d(rank, rank, 3, padding=1, groups=rank, bias=False),
        )
        self.global_context = nn.Sequential(
            ImageMean(),
            PointwiseConv2d(rank, rank // 4),
            nn.ReLU(),
            PointwiseConv2d(rank // 4, rank),
            nn.Sigmoid(),
        )
        self.conv_up = PointwiseConv2d(rank, out_channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        down = self.conv_down(x)
        dwconv1, norm, gelu, dwconv2 = self.spatial_context
        spatial = recompute(lambda y: dwconv2(gelu(y)), norm(dwconv1(down)))
        return self.conv_up(torch.addcmul(down, spatial, self.global_context(spatial)))


def low_rank(replacement: Callable[..., nn.Module], ratio: float | None, least: int) -> Callable[..., nn.Module]:
    """A maker of 1x1 convolutions (in_channels, out_channels, bias=...) of rank max(least, int(min(in, out) * ratio)).

    Where that is no smaller than min(in, out), or without a ratio, it makes plain convolutions.
    """

    def make(in_channels: int, out_channels: int, bias: bool = True) -> nn.Module:
        full = min(in_channels, out_channels)
        rank = full if ratio is None else max(least, int(full * ratio))
        if rank >= full:
            return PointwiseConv2d(in_channels, out_channels, bias=bias)
        return replacement(in_channels, out_channels, rank, bias)

    return make
