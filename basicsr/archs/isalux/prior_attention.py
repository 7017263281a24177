"""Attention whose results are multiplied by features of priors (ISALux, Balmez et al. 2025), with low-rank adapters."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basicsr.archs.layers.channel_attention import attend, paired_affinity
from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.layers.recompute import recompute


class LoRA(nn.Module):
    """Low-rank addition to a linear layer: x A^T B^T, (..., in_features) to (..., out_features); zero at the start.

    `r` is the inner rank itself.
    """

    def __init__(self, in_features: int, out_features: int, r: int = 4):
        super().__init__()
        self.lora_a = nn.Linear(in_features, r, bias=False)  # starts as kaiming_uniform(a=sqrt(5)), nn.Linear's default
        self.lora_b = nn.Linear(r, out_features, bias=False)
        nn.init.zeros_(self.lora_b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.lora_b(self.lora_a(x))

    def product(self) -> Tensor:
        """B A, (out_features, in_features): what it adds to the weight of the layer beside it."""
        return self.lora_b.weight @ self.lora_a.weight


class AdaptedAttention(nn.Module):
    """Self-attention between channels; q, k, v by a 1x1 convolution, each with its LoRA of rank `rank` (0: none)."""

    def __init__(self, dim: int, num_heads: int, rank: int):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(1, num_heads, 1, 1))
        self.qkv_proj = PointwiseConv2d(dim, 3 * dim)
        self.lora_q = LoRA(dim, dim, rank) if rank else None
        self.lora_k = LoRA(dim, dim, rank) if rank else None
        self.lora_v = LoRA(dim, dim, rank) if rank else None

    def forward(self, u: Tensor) -> Tensor:
        """(B, H, W, C) to the same."""
        c = u.shape[-1]
        qk, v = F.linear(u, self._weight(), self.qkv_proj.bias).split([2 * c, c], dim=-1)
        return attend(paired_affinity(qk, self.temperature[0]), v)

    @torch.no_grad()
    def merge_lora(self) -> None:
        self.qkv_proj.weight.copy_(self._weight()[:, :, None, None])
        self.lora_q = self.lora_k = self.lora_v = None

    def _weight(self) -> Tensor:
        """(3 C, C). Both branches are linear: adding matrices of weights is cheaper than adding images."""
        weight = self.qkv_proj.weight.flatten(1)
        added = [lora.product() for lora in (self.lora_q, self.lora_k, self.lora_v) if lora is not None]
        return weight + torch.cat(added) if added else weight


class HISA_MSA(nn.Module):
    """Hybrid illumination and semantics-aware attention: proj(v * (M_i . F_Pi) + w * (M_s . F_Ps)).

    M_i and M_s are two self-attentions of the same features, v and w learned scalars; the priors multiply their results
    element by element. Without both priors v * M_i is left.

    Args:
        dim, num_heads: channels and the heads that share them.
        r: reduction of the LoRA, whose inner rank is max(1, dim // r); 0 for none.
        illum, sem: which priors there are.
    """

    def __init__(self, dim: int, num_heads: int = 8, r: int = 4, illum: bool = True, sem: bool = True):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'HISA_MSA: {num_heads} heads do not divide {dim} channels')
        if r < 0:
            raise ValueError(f'HISA_MSA: the reduction r must not be negative (0: no LoRA), not {r}')
        rank = max(1, dim // r) if r else 0
        self.illum, self.sem = illum, sem
        first = illum or not sem
        self.v = nn.Parameter(torch.ones(())) if first else None
        self.w = nn.Parameter(torch.ones(())) if sem else None
        self.attn_i = AdaptedAttention(dim, num_heads, rank) if first else None
        self.attn_s = AdaptedAttention(dim, num_heads, rank) if sem else None
        self.proj = PointwiseConv2d(dim, dim)

    def forward(self, u: Tensor, F_Pi: Tensor | None = None, F_Ps: Tensor | None = None) -> Tensor:
        """u (B, H, W, C), priors (B, C, H, W) to (B, H, W, C)."""
        streams = []
        if self.attn_i is not None:
            streams.append((self.v, self.attn_i(u), F_Pi if self.illum else None))
        if self.attn_s is not None:
            streams.append((self.w, self.attn_s(u), F_Ps))
        return recompute(self._join, *streams)

    def _join(self, *streams: tuple[Tensor, Tensor, Tensor | None]) -> Tensor:
        parts = [scale * (out if prior is None else out * prior.permute(0, 2, 3, 1)) for scale, out, prior in streams]
        m = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return F.linear(m, self.proj.weight.flatten(1), self.proj.bias)
