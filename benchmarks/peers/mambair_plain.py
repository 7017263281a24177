"""MambaIR (Guo et al. 2024, arXiv 2402.15648) structured as published, around any scan; names of its checkpoints.

A peer to measure against: layouts change from sequences to images and back in every block.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .published_scan import published_scan
from .retinexmamba_plain import SS2D, Scan


class ChannelAttention(nn.Module):

    def __init__(self, dim: int):
        super().__init__()
        few = dim // 30
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, few, 1), nn.ReLU(inplace=True),
                                       nn.Conv2d(few, dim, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


class CAB(nn.Module):

    def __init__(self, dim: int, light: bool):
        super().__init__()
        if light:
            half = dim // 2
            layers = [
                nn.Conv2d(dim, half, 1),
                nn.Conv2d(half, half, 3, 1, 1, groups=half),
                nn.GELU(),
                nn.Conv2d(half, dim, 1),
                nn.Conv2d(dim, dim, 3, 1, 2, groups=dim, dilation=2)
            ]
        else:
            layers = [nn.Conv2d(dim, dim // 3, 3, 1, 1), nn.GELU(), nn.Conv2d(dim // 3, dim, 3, 1, 1)]
        self.cab = nn.Sequential(*layers, ChannelAttention(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.cab(x)


class VSSBlock(nn.Module):
    """On sequences of pixels (B, L, C)."""

    def __init__(self, dim: int, d_state: int, expand: float, light: bool, scan: Scan):
        super().__init__()
        self.skip_scale, self.skip_scale2 = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))
        self.ln_1 = nn.LayerNorm(dim)
        self.self_attention = SS2D(dim, d_state, scan, expand)
        self.conv_blk = CAB(dim, light)
        self.ln_2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        b, _, c = x.shape
        x = x.view(b, *size, c).contiguous()
        x = x * self.skip_scale + self.self_attention(self.ln_1(x))
        convolved = self.conv_blk(self.ln_2(x).permute(0, 3, 1, 2).contiguous())
        x = x * self.skip_scale2 + convolved.permute(0, 2, 3, 1).contiguous()
        return x.view(b, -1, c).contiguous()


class Group(nn.Module):

    def __init__(self, dim: int, depth: int, d_state: int, expand: float, light: bool, scan: Scan):
        super().__init__()
        self.residual_group = nn.Module()
        self.residual_group.blocks = nn.ModuleList(VSSBlock(dim, d_state, expand, light, scan) for _ in range(depth))
        self.conv = nn.Conv2d(dim, dim, 3, 1, 1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        y = x
        for block in self.residual_group.blocks:
            y = block(y, size)
        y = self.conv(y.transpose(1, 2).view(y.shape[0], y.shape[2], *size))
        return y.flatten(2).transpose(1, 2) + x


class MambaIR(nn.Module):
    """Denoising of three channels; the defaults are the published options: 15,777,507 parameters."""

    def __init__(self, embed_dim: int = 180, depths: Sequence[int] = (6, 6, 6, 6, 6, 6), d_state: int = 16,
                 mlp_ratio: float = 1.2, scan: Scan = published_scan):
        super().__init__()
        self.conv_first = nn.Conv2d(3, embed_dim, 3, 1, 1)
        self.patch_embed = nn.Module()
        self.patch_embed.norm = nn.LayerNorm(embed_dim)
        self.layers = nn.ModuleList(Group(embed_dim, n, d_state, mlp_ratio, False, scan) for n in depths)
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, 1, 1)
        self.conv_last = nn.Conv2d(embed_dim, 3, 3, 1, 1)

    def forward(self, img: Tensor) -> Tensor:
        size = img.shape[-2:]
        mean = img.new_tensor((0.4488, 0.4371, 0.4040)).view(1, 3, 1, 1)
        img = img - mean
        first = self.conv_first(img)
        x = self.patch_embed.norm(first.flatten(2).transpose(1, 2))
        for layer in self.layers:
            x = layer(x, size)
        x = self.norm(x).transpose(1, 2).view(first.shape)
        return img + self.conv_last(self.conv_after_body(x) + first) + mean
