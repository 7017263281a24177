"""Illumination-guided attention blocks (Retinexformer, Cai et al. 2023, eq. 5-7); without guide the blocks of MST++."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.channel_attention import AttendedLinear, affinity_in_strips
from basicsr.archs.layers.feedforward import FeedForward, PreNorm
from basicsr.archs.layers.gelu import GELU
from basicsr.archs.layers.pointwise import JoinedLinear
from basicsr.archs.layers.recompute import checkpointed, recompute
from basicsr.archs.layers.strips import in_strips


class GuidedAttention(nn.Module):
    """IG-MSA: attention between channels whose values are multiplied by the illumination features.

    Rows of the attention matrix belong to k and columns to q, as in the published code. The convolutions of the
    positional branch see the values before the multiplication.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.rescale = nn.Parameter(torch.ones(heads, 1, 1))
        self.to_q, self.to_k, self.to_v = (JoinedLinear(dim, dim, bias=False) for _ in range(3))
        self.proj = AttendedLinear(dim, dim)
        self.pos_emb = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False),
            GELU(),
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False),
        )

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """(B, C, H, W) and a guide of the same shape to the same."""
        weight = torch.cat([self.to_k(), self.to_q(), self.to_v()])  # one product, three published keys
        c = x.shape[1]

        def attended(read: slice, keep: slice) -> tuple[Tensor, Tensor]:
            kq, v = F.linear(x[:, :, read].permute(0, 2, 3, 1), weight).split([2 * c, c], dim=-1)
            # the convolution would copy it, and once more in the backward pass
            return kq, v.contiguous().permute(0, 3, 1, 2)

        v, affinity = affinity_in_strips(x, attended, self.rescale, channels=3 * c)
        position = in_strips(self._position, v, channels=c, halo=2)
        values = v if guide is None else v * guide
        del v
        out = self.proj(affinity, *(t.permute(0, 2, 3, 1) for t in (values, position)))
        return out.permute(0, 3, 1, 2)

    def _position(self, v: Tensor) -> Tensor:
        return recompute(lambda y: self.pos_emb[2](self.pos_emb[1](y)), self.pos_emb[0](v))


class GuidedBlocks(nn.Module):
    """IGAB: attention without a norm in front of it, then normalised feed-forward, `num_blocks` times."""

    def __init__(self, dim: int, heads: int, num_blocks: int, checkpoint: bool = False):
        super().__init__()
        self.checkpoint = checkpoint
        self.blocks: Any = nn.ModuleList(
            nn.ModuleList([GuidedAttention(dim, heads), PreNorm(dim, FeedForward(dim))]) for _ in range(num_blocks))

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        for attention, ffn in self.blocks:
            x = checkpointed(self.checkpoint, _block, attention, ffn, x, guide)
        return x


def _block(attention: nn.Module, ffn: nn.Module, x: Tensor, guide: Tensor | None) -> Tensor:
    x = x + attention(x, guide)
    return in_strips(lambda t: t + ffn(t), x, channels=4 * x.shape[1], halo=1)
