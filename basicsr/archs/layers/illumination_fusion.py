"""Illumination fusion attention (RetinexMamba, Bai et al. 2024): image features attend with queries from illumination.

Tensors are (B, C, H, W), channels-last in memory.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from basicsr.archs.layers.feedforward import GatedFeedForward
from basicsr.archs.layers.norm import BodyLayerNorm
from basicsr.archs.layers.pointwise import PointwiseConv2d, pointwise
from basicsr.archs.layers.strips import in_strips, row_strips


class FusedAttention(nn.Module):
    """Channel attention with queries from the illumination features and keys, values from the image features."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.kv = PointwiseConv2d(dim, dim * 2)
        self.kv_dwconv = nn.Conv2d(dim * 2, dim * 2, 3, padding=1, groups=dim * 2)
        self.q = PointwiseConv2d(dim, dim)
        self.q_dwconv = nn.Conv2d(dim, dim, 3, padding=1)  # dense in spite of its name, as in the checkpoints
        self.project_out = PointwiseConv2d(dim, dim)

    def forward(self, x: Tensor, illumination: Tensor, prepare: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Values (B, C, H, W), and per image the (C, C) matrix that mixes their channels.

        `prepare` makes the input of the queries from illumination features. q and k are normalised over all pixels:
        their Gram matrix is taken first and scaled afterwards.
        """
        values, grams, squares_q, squares_k = [], [], [], []
        for read, keep in row_strips(x, 3 * x.shape[1], halo=1):
            k, v = self.kv_dwconv(self.kv(x[:, :, read]))[:, :, keep].chunk(2, dim=1)
            q = self.q_dwconv(self.q(prepare(illumination[:, :, read])))[:, :, keep]
            # sums run over all pixels: they overflow half precision
            with torch.autocast(x.device.type, enabled=False):
                q, k = (self._by_head(t) for t in (q, k))
                grams.append(q.transpose(-2, -1) @ k)
                squares_q.append(q.square().sum(-2))
                squares_k.append(k.square().sum(-2))
            values.append(v)
        with torch.autocast(x.device.type, enabled=False):
            gram, length_q, length_k = sum(grams), sum(squares_q), sum(squares_k)
            scale_q, scale_k = (_inverse_length(t) for t in (length_q, length_k))
            logits = gram * scale_q.unsqueeze(-1) * scale_k.unsqueeze(-2) * self.temperature.to(gram.dtype)
            mixing = torch.stack([torch.block_diag(*m) for m in logits.softmax(dim=-1)])
            weight = self.project_out.weight.flatten(1).to(gram.dtype) @ mixing
        return values[0] if len(values) == 1 else torch.cat(values, dim=2), weight

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, C, h, W) to (B, heads, pixels, C / heads), at least float32."""
        b, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).reshape(b, h * w, self.num_heads, c // self.num_heads).transpose(1, 2)
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def project(self, values: Tensor, weight: Tensor) -> Tensor:
        """Attention and output projection in one: each image's own (C, C) matrix on its values."""
        b, c, h, w = values.shape
        weight = weight.to(values.dtype)
        if b == 1:
            return pointwise(values, weight[0], self.project_out.bias)
        out = values.permute(0, 2, 3, 1).reshape(b, h * w, c) @ weight.transpose(1, 2)
        return (out + self.project_out.bias).view(b, h, w, c).permute(0, 3, 1, 2)


class IFA(nn.Module):
    """Illumination fusion attention: attention and gated feed-forward on normalised features.

    One norm serves both inputs, and the residual is added to the *normalised* features.
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
        values, weight = self.attn(x, illumination, lambda s: self.norm1(self.conv1(s)))

        def finish(x: Tensor, values: Tensor) -> Tensor:
            x = x + self.attn.project(values, weight)
            return x + self.ffn(self.norm2(x))

        return in_strips(finish, x, values, channels=self.ffn.dwconv.out_channels, halo=1)


def _inverse_length(squares: Tensor) -> Tensor:
    """1 / max(|v|, 1e-12) from |v|^2, with a gradient of 0 where v is 0."""
    return squares.clamp(min=1e-24).rsqrt()
