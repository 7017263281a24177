"""Transposed attention of Restormer (MDTA), optionally gated."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from basicsr.archs.layers.channel_attention import attend, channel_affinity, paired_affinity
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import recompute

Pointwise = Callable[..., nn.Module]  # (in_channels, out_channels, bias=...) to a module


class TransposedAttention(nn.Module):
    """q, k, v by 1x1 and depthwise 3x3 convolutions, attention between channels, 1x1 back (Restormer, eq. 1).

    Args:
        dim, num_heads: channels and the heads that share them.
        bias: of the convolutions.
        gate: None, 'headwise' (one map per head) or 'elementwise' (one per channel): sigmoid maps, computed with q, k
            and v, that multiply the attended values.
        qkv, project_out: what makes the two 1x1 convolutions.
    """

    def __init__(self, dim: int, num_heads: int, bias: bool = False, gate: str | None = None,
                 qkv: Pointwise = PointwiseConv2d, project_out: Pointwise = PointwiseConv2d):
        super().__init__()
        self.gate_size = {None: 0, 'headwise': num_heads, 'elementwise': dim}[gate]
        width = 3 * dim + self.gate_size
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = qkv(dim, width, bias=bias)
        self.qkv_dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=bias)
        self.project_out = project_out(dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        rows = self.qkv_dwconv(self.qkv(x)).permute(0, 2, 3, 1)
        if self.gate_size:
            q, gate, k, v = rows.split([c, self.gate_size, c, c], dim=-1)
            affinity = channel_affinity(q, k, self.temperature)
        else:
            qk, v = rows.split([2 * c, c], dim=-1)
            affinity = paired_affinity(qk, self.temperature)
        if self.gate_size == 0 and isinstance(self.project_out, PointwiseConv2d):
            out = attend(affinity, v, self.project_out.weight.flatten(1), self.project_out.bias)
            return out.permute(0, 3, 1, 2)
        out = attend(affinity, v)
        if self.gate_size:
            out = recompute(_gated, out, gate)
        return self.project_out(out.permute(0, 3, 1, 2))


def _gated(x: Tensor, gate: Tensor) -> Tensor:
    """(B, H, W, C) times the sigmoid of a gate with as many channels, or one for each group of them."""
    groups = gate.shape[-1]
    return (x.unflatten(-1, (groups, -1)) * gate.sigmoid().unsqueeze(-1)).flatten(-2)
