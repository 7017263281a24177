"""Blocks of MambaIR: a selective scan of the image, then convolutions with channel attention."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from basicsr.archs.layers.dilated import DilatedDepthwiseConv2d
from basicsr.archs.layers.gelu import GELU
from basicsr.archs.layers.norm import ChannelLayerNorm
from basicsr.archs.layers.recompute import Blocks
from basicsr.archs.layers.ss2d import SS2D
from basicsr.archs.layers.whole_image import ImageMean


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, a sample's branch is kept with probability 1 - `rate`."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))


class ChannelAttention(nn.Module):
    """Channels weighed by what two layers make of their means."""

    def __init__(self, dim: int):
        super().__init__()
        few = dim // 30
        self.attention = nn.Sequential(ImageMean(), nn.Conv2d(dim, few, 1), nn.ReLU(inplace=True),
                                       nn.Conv2d(few, dim, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


class ConvBlock(nn.Module):
    """Two convolutions and channel attention. `light`: 1x1 and depthwise ones, the last of them dilated."""

    def __init__(self, dim: int, light: bool):
        super().__init__()
        if light:
            half = dim // 2
            layers = [
                nn.Conv2d(dim, half, 1),
                nn.Conv2d(half, half, 3, padding=1, groups=half),
                GELU(),
                nn.Conv2d(half, dim, 1),
                DilatedDepthwiseConv2d(dim, 2)
            ]
        else:
            layers = [nn.Conv2d(dim, dim // 3, 3, padding=1), GELU(), nn.Conv2d(dim // 3, dim, 3, padding=1)]
        self.cab = nn.Sequential(*layers, ChannelAttention(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.cab(x)


class VSSBlock(nn.Module):
    """Scan and convolutions, each with a residual that is scaled by channel.

    Args:
        dim: channels. d_state, expand: of the scan. drop_path: rate at which the scan is left out. light: of `ConvBlock`.
    """

    def __init__(self, dim: int, d_state: int, expand: float, drop_path: float, light: bool):
        super().__init__()
        self.skip_scale = nn.Parameter(torch.ones(dim))
        self.skip_scale2 = nn.Parameter(torch.ones(dim))
        self.ln_1 = ChannelLayerNorm(dim)
        self.self_attention = SS2D(dim, d_state, expand=expand)
        self.drop_path = DropPath(drop_path)
        self.conv_blk = ConvBlock(dim, light)
        self.ln_2 = ChannelLayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W), channels-last in memory, to the same."""
        scanned = self.drop_path(self.self_attention(self.ln_1(x)))
        x = torch.addcmul(scanned, x, self.skip_scale[:, None, None].to(x.dtype))
        return torch.addcmul(self.conv_blk(self.ln_2(x)), x, self.skip_scale2[:, None, None].to(x.dtype))


class ResidualGroup(nn.Module):
    """Blocks and a convolution, with a residual around them."""

    residual_group: Any

    def __init__(self, blocks: Sequence[nn.Module], conv: Callable[[], nn.Module], checkpoint: bool):
        super().__init__()
        self.residual_group = nn.Module()  # as published weights name it
        self.residual_group.blocks = Blocks(*blocks, checkpoint=checkpoint)
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.residual_group.blocks(x)) + x
