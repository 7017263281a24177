"""RetinexMamba (Bai et al. 2024, arXiv 2405.03349) structured as published, around any scan; names of its checkpoints.

A peer to measure against: hand-written norms between two layouts, permuted copies, four materialised traversals.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .published_scan import published_scan, published_ss2d
from .retinexformer_plain import Denoiser, FeedForward, IlluminationEstimator, PreNorm

Scan = Callable[..., Tensor]


class WithBiasLayerNorm(nn.Module):
    """Over the last axis, written out."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / torch.sqrt(variance + 1e-5) * self.weight + self.bias


class LayerNorm(nn.Module):
    """Over the channels of (B, C, H, W)."""

    def __init__(self, dim: int):
        super().__init__()
        self.body = WithBiasLayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        y = self.body(rearrange(x, 'b c h w -> b (h w) c'))
        return rearrange(y, 'b (h w) c -> b c h w', h=h, w=w)


class Attention(nn.Module):
    """Channel attention: queries from the illumination, keys and values from the image."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.kv = nn.Conv2d(dim, dim * 2, 1)
        self.kv_dwconv = nn.Conv2d(dim * 2, dim * 2, 3, padding=1, groups=dim * 2)
        self.q = nn.Conv2d(dim, dim, 1)
        self.q_dwconv = nn.Conv2d(dim, dim, 3, padding=1)  # dense, as published
        self.project_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        k, v = self.kv_dwconv(self.kv(x)).chunk(2, dim=1)
        q = self.q_dwconv(self.q(illumination))
        q, k, v = (rearrange(t, 'b (head c) h w -> b head c (h w)', head=self.num_heads) for t in (q, k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.project_out(rearrange(attention @ v, 'b head c (h w) -> b (head c) h w', h=h, w=w))


class GatedFeedForward(nn.Module):

    def __init__(self, dim: int, expansion: float = 2.66):
        super().__init__()
        hidden = int(dim * expansion)
        self.project_in = nn.Conv2d(dim, hidden * 2, 1)
        self.dwconv = nn.Conv2d(hidden * 2, hidden * 2, 3, padding=1, groups=hidden * 2)
        self.project_out = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(a) * b)


class IFA(nn.Module):
    """Illumination fusion attention; its residual is the normalised input."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = LayerNorm(dim)
        self.ffn = GatedFeedForward(dim)

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        illumination = F.interpolate(illumination, size=x.shape[-2:], mode='nearest')  # always the same size: a copy
        illumination = self.norm1(self.conv1(illumination))
        x = self.norm1(x)
        x = x + self.attn(x, illumination)
        return x + self.ffn(self.norm2(x))


class SS2D(nn.Module):
    """(B, H, W, dim) to the same by four traversals of the pixels."""

    def __init__(self, dim: int, d_state: int, scan: Scan, expand: float = 2):
        super().__init__()
        inner, rank = int(dim * expand), math.ceil(dim / 16)
        self.scan = scan
        # a plausible start for timing: steps of about 0.02, decays 1..N
        self.x_proj_weight = nn.Parameter(torch.randn(4, rank + 2 * d_state, inner) * inner**-0.5)
        self.dt_projs_weight = nn.Parameter(torch.randn(4, inner, rank) * rank**-0.5)
        self.dt_projs_bias = nn.Parameter(torch.full((4, inner), -4.0))
        self.A_logs = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(4 * inner, 1))
        self.Ds = nn.Parameter(torch.ones(4 * inner))
        self.in_proj = nn.Linear(dim, inner * 2, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv2d(u.permute(0, 3, 1, 2).contiguous()))
        A = -torch.exp(self.A_logs.float())
        y = published_ss2d(u, self.x_proj_weight, self.dt_projs_weight, self.dt_projs_bias, A, self.Ds, self.scan)
        return self.out_proj(self.out_norm(y) * F.silu(z))


class IFSSM(nn.Module):
    """Blocks of IFA, SS2D and feed-forward on (B, C, H, W); the residual of SS2D is the block's input."""

    def __init__(self, dim: int, heads: int, num_blocks: int, d_state: int, scan: Scan):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList([IFA(dim, heads), SS2D(dim, d_state, scan),
                           PreNorm(dim, FeedForward(dim))]) for _ in range(num_blocks))

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        for attention, ss2d, ffn in self.blocks:
            y = attention(x, illumination).permute(0, 2, 3, 1)
            y = ss2d(y) + x.permute(0, 2, 3, 1)
            y = ffn(y) + y
            x = y.permute(0, 3, 1, 2).contiguous()
        return x


class Stage(nn.Module):

    def __init__(self, n_feat: int, num_blocks: Sequence[int], d_state: int, scan: Scan):
        super().__init__()
        self.estimator = IlluminationEstimator(n_feat)

        def body(dim: int, blocks: int, depth: int) -> nn.Module:  # states N, 2N, 4N inwards, 4N, 2N outwards
            return IFSSM(dim, dim // n_feat, blocks, d_state * 2**depth, scan)

        self.Restorer = Denoiser(n_feat, num_blocks, body)

    def forward(self, img: Tensor) -> Tensor:
        illumination, light_map = self.estimator(img)
        return self.Restorer(img * light_map + img, illumination)


class RetinexMamba(nn.Module):
    """(B, 3, H, W), H and W multiples of 4, to the same. The defaults are the official options: 4,589,001 parameters."""

    def __init__(self, n_feat: int = 40, stage: int = 1, num_blocks: Sequence[int] = (1, 2, 2), d_state: int = 16,
                 scan: Scan = published_scan):
        super().__init__()
        self.body = nn.Sequential(*(Stage(n_feat, num_blocks, d_state, scan) for _ in range(stage)))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)
