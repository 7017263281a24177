"""Layer normalisation over the channels of each pixel."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.recompute import recompute


def channel_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """(B, C, H, W) normalised over C at every pixel; channels-last memory goes in and out without a copy."""
    y = F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, eps)
    return y.permute(0, 3, 1, 2)


class ChannelLayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` over the channels of (B, C, H, W); parameters `weight`, `bias` of shape (C)."""

    def forward(self, x: Tensor) -> Tensor:
        return channel_layer_norm(x, self.weight, self.bias, self.eps)


class BodyLayerNorm(nn.Module):
    """The same with its parameters under `body.`, where Restormer-style checkpoints keep them.

    `bias=False` is Restormer's BiasFree form: no bias, and x itself is divided by its deviation, x - mean is not.
    """

    def __init__(self, dim: int, bias: bool = True):
        super().__init__()
        self.body = nn.Module()
        self.body.weight = nn.Parameter(torch.ones(dim))
        self.body.register_parameter('bias', nn.Parameter(torch.zeros(dim)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        if self.body.bias is None:
            return recompute(channel_deviation_norm, x, self.body.weight)
        return channel_layer_norm(x, self.body.weight, self.body.bias)


def channel_deviation_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """weight * x / sqrt(var(x) + eps), the biased variance over C at every pixel; in float32 for half precision."""
    y = x.permute(0, 2, 3, 1).to(torch.promote_types(x.dtype, torch.float32))
    y = y * (y.var(dim=-1, keepdim=True, correction=0) + eps).rsqrt() * weight
    return y.to(x.dtype).permute(0, 3, 1, 2)
