"""Layer normalisation over the channels of each pixel."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.recompute import recompute
from basicsr.utils.precision import at_least_float32


def channel_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """(B, C, H, W) normalised over C at every pixel; channels-last memory goes in and out without a copy."""
    return layer_norm(x.permute(0, 2, 3, 1), weight, bias, eps).permute(0, 3, 1, 2)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """(..., C) normalised over C, in the type of x. The kernel's sums are float32 whatever the type.

    Autocast would have it return float32 on a GPU, which the next product casts down again: two more passes each way.
    """
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, weight.shape, weight.to(x.dtype), bias.to(x.dtype), eps)


class ChannelLayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` over the channels of (B, C, H, W); parameters `weight`, `bias` of shape (C)."""

    casts = ('weight', 'bias')  # under autocast, see basicsr/engine/casting.py

    def forward(self, x: Tensor) -> Tensor:
        return channel_layer_norm(x, self.weight, self.bias, self.eps)


class ChannelDeviationNorm(nn.Module):
    """`channel_deviation_norm` with its parameter `weight`."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return recompute(channel_deviation_norm, x, self.weight)


class BodyLayerNorm(nn.Module):
    """One of the two with its parameters under `body.`, where Restormer-style checkpoints keep them.

    `bias=False` is Restormer's BiasFree form: no bias, and x itself is divided by its deviation, x - mean is not.
    """

    def __init__(self, dim: int, bias: bool = True):
        super().__init__()
        self.body = ChannelLayerNorm(dim) if bias else ChannelDeviationNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def is_centred(name: str, norm_type: str) -> bool:
    """Whether norms of this `LayerNorm_type` subtract the mean. Raises `ValueError`, with the network's name, for no type."""
    if norm_type not in ('WithBias', 'BiasFree'):
        raise ValueError(f"{name}: LayerNorm_type must be 'WithBias' or 'BiasFree', not '{norm_type}'")
    return norm_type == 'WithBias'


def channel_deviation_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """weight * x / sqrt(var(x) + eps), the biased variance over C at every pixel; in float32 for half precision."""
    y = x.permute(0, 2, 3, 1).to(at_least_float32(x.dtype))
    y = y * (y.var(dim=-1, keepdim=True, correction=0) + eps).rsqrt() * weight
    return y.to(x.dtype).permute(0, 3, 1, 2)
