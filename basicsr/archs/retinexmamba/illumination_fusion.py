"""Illumination fusion attention (RetinexMamba, Bai et al. 2024): image features attend with queries from illumination.

Tensors are (B, C, H, W), channels-last in memory.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from basicsr.archs.layers.channel_attention import AttendedConv2d, affinity_in_strips
from basicsr.archs.layers.feedforward import GatedFeedForward
from basicsr.archs.layers.full_precision import exact
from basicsr.archs.layers.norm import BodyLayerNorm
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.strips import in_strips
from basicsr.utils.precision import at_least_float32


class FusedAttention(nn.Module):
    """Channel attention with queries from the illumination features and keys, values from the image features."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.kv = PointwiseConv2d(dim, dim * 2)
        self.kv_dwconv = nn.Conv2d(dim * 2, dim * 2, 3, padding=1, groups=dim * 2)
        self.q = PointwiseConv2d(dim, dim)
        self.q_dwconv = nn.Conv2d(dim, dim, 3, padding=1)  # dense in spite of its name, as in the checkpoints
        self.project_out = AttendedConv2d(dim, dim)

    def forward(self, x: Tensor, illumination: Tensor, prepare: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Values (B, C, H, W), and how their channels are mixed (B, heads, C / heads, C / heads).

        `prepare` makes the input of the queries from illumination features.
        """

        def attended(read: slice, keep: slice) -> tuple[Tensor, ...]:
            k, v = self.kv_dwconv(self.kv(x[:, :, read]))[:, :, keep].chunk(2, dim=1)
            q = self.q_dwconv(self.q(prepare(illumination[:, :, read])))[:, :, keep]
            return q.permute(0, 2, 3, 1), k.permute(0, 2, 3, 1), v

        return affinity_in_strips(x, attended, self.temperature, channels=3 * x.shape[1], halo=1)

    def project(self, values: Tensor, affinity: Tensor, x: Tensor | None = None) -> Tensor:
        """Attention and output projection in one, added to `x` where given."""
        residual = None if x is None else x.permute(0, 2, 3, 1)
        return self.project_out(affinity, values.permute(0, 2, 3, 1), residual).permute(0, 3, 1, 2)


class IFA(nn.Module):
    """Illumination fusion attention: attention and gated feed-forward on normalised features.

    One norm serves both inputs, and the residual is added to the *normalised* features. Under autocast the feed-forward of
    features in float32 stays in float32: its gate, a product of two features, doubles the rounding of its input.
    """

    def __init__(self, dim: int, num_heads: int, ffn_expansion_factor: float = 2.66):
        super().__init__()
        self.conv1 = PointwiseConv2d(dim, dim)
        self.norm1 = BodyLayerNorm(dim)
        self.attn = FusedAttention(dim, num_heads)
        self.norm2 = BodyLayerNorm(dim)
        self.ffn = GatedFeedForward(dim, ffn_expansion_factor, bias=True)

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        x = self.norm1(x)
        values, affinity = self.attn(x, illumination, lambda s: self.norm1(self.conv1(s)))

        def finish(x: Tensor, values: Tensor) -> Tensor:
            x = self.attn.project(values, affinity, x)
            with exact(x, x.dtype == at_least_float32(x.dtype)):
                return x + self.ffn(self.norm2(x))

        return in_strips(finish, x, values, channels=self.ffn.dwconv.out_channels, halo=1)
