"""Convolutional feed-forward blocks on (B, C, H, W)."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.norm import ChannelLayerNorm


class FeedForward(nn.Module):
    """1x1 to `mult` times the width, 3x3 depthwise, 1x1 back, exact GELU between; no biases (Retinexformer, MST++)."""

    def __init__(self, dim: int, mult: int = 4):
        super().__init__()
        hidden = dim * mult
        self.net = nn.Sequential(
            nn.Conv2d(dim, hidden, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, 1, 1, bias=False, groups=hidden),
            nn.GELU(),
            nn.Conv2d(hidden, dim, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class PreNorm(nn.Module):
    """`fn(norm(x))`; `fn` is registered first, as published checkpoints order it."""

    def __init__(self, dim: int, fn: nn.Module):
        super().__init__()
        self.fn = fn
        self.norm = ChannelLayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class GatedFeedForward(nn.Module):
    """GDFN of Restormer (Zamir et al. 2022): 1x1 to two halves, 3x3 depthwise, GELU(a) * b, 1x1 back."""

    def __init__(self, dim: int, ffn_expansion_factor: float = 2.66, bias: bool = False):
        super().__init__()
        hidden = int(dim * ffn_expansion_factor)
        self.project_in = nn.Conv2d(dim, hidden * 2, 1, bias=bias)
        self.dwconv = nn.Conv2d(hidden * 2, hidden * 2, 3, 1, 1, groups=hidden * 2, bias=bias)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(a) * b)
