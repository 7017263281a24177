"""Attention whose input is routed through weights for channels and pixels (ImprovedLoRaGateRestormer)."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.recompute import recompute
from basicsr.archs.layers.transposed_attention import Pointwise, TransposedAttention
from basicsr.archs.layers.whole_image import image_max, image_mean


class DFRG(nn.Module):
    """Degradation-aware feature routing gate: weights for channels from pooled features, for pixels from a 7x7 window.

    The expert selector has parameters in published checkpoints, but its softmax over experts is used by nobody: it is
    not computed, its parameters get no gradient.
    """

    def __init__(self, dim: int, pointwise: Pointwise, reduction: int = 4, num_experts: int = 5):
        super().__init__()
        squeezed = dim // reduction
        self.fc1 = pointwise(dim * 2, squeezed, bias=False)
        self.fc2 = pointwise(squeezed, dim, bias=False)
        self.expert_selector = nn.Sequential(pointwise(squeezed, num_experts, bias=True))
        self.spatial_gate = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([image_mean(x), image_max(x)], dim=1)
        channels = self.fc2(F.relu(self.fc1(pooled))).sigmoid()
        pixels = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        pixels = self.spatial_gate(pixels).sigmoid()
        return recompute(lambda *factors: factors[0] * factors[1] * factors[2], x, channels, pixels)


class RoutedAttention(TransposedAttention):
    """Gated attention whose input goes through DFRG first."""

    def __init__(self, dim: int, heads: int, bias: bool, gate: str | None, qkv: Pointwise, project_out: Pointwise,
                 use_dfrg: bool):
        super().__init__(dim, heads, bias, gate, qkv, project_out)
        self.dfrg = DFRG(dim, qkv) if use_dfrg else None

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.dfrg is None else self.dfrg(x))
