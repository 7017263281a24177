"""Attention between the channels of two images: one asks, the other is looked at."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from basicsr.archs.layers.channel_attention import AttendedConv2d, channel_affinity
from basicsr.archs.layers.pointwise import PointwiseConv2d


class CrossAttention(nn.Module):
    """q of the first image, k and v of the second by 1x1 and depthwise convolutions, attention, 1x1 back.

    Args:
        dim, heads: channels and the heads that share them. bias: of the convolutions. size: of that of k and v.
    """

    def __init__(self, dim: int, heads: int, bias: bool = False, size: int = 3):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q = PointwiseConv2d(dim, dim, bias=bias)
        self.q_dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=bias)
        self.kv = PointwiseConv2d(dim, 2 * dim, bias=bias)
        self.kv_dwconv = nn.Conv2d(2 * dim, 2 * dim, size, padding=size // 2, groups=2 * dim, bias=bias)
        self.project_out = AttendedConv2d(dim, dim, bias=bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two (B, dim, H, W) to one."""
        q = self.q_dwconv(self.q(x)).permute(0, 2, 3, 1)
        k, v = self.kv_dwconv(self.kv(y)).permute(0, 2, 3, 1).chunk(2, -1)
        return self.project_out(channel_affinity(q, k, self.temperature), v).permute(0, 3, 1, 2)
