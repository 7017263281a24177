"""CIDNet (Yan et al. 2025, arXiv 2502.20272) structured as published; names of its checkpoints.

A peer to measure against: masked writes in the colour transform, branch by branch, and a block whose result is thrown away.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class RGB_HVI(nn.Module):
    """Hue by masked writes; six sectors on the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.density_k = nn.Parameter(torch.full([1], 0.2))

    def to_hvi(self, img: Tensor) -> Tensor:
        eps = 1e-8
        hue = torch.zeros_like(img[:, 0])
        value, least = img.max(1)[0], img.min(1)[0]
        red, green, blue = img[:, 0], img[:, 1], img[:, 2]
        span = value - least + eps
        for mask, sector in ((blue == value, 4. + (red - green) / span), (green == value, 2. + (blue - red) / span),
                             (red == value, ((green - blue) / span) % 6)):
            hue[mask] = sector[mask]
        hue[least == value] = 0.
        hue = hue / 6.
        saturation = (value - least) / (value + eps)
        saturation[value == 0] = 0
        hue, saturation, value = hue[:, None], saturation[:, None], value[:, None]
        radius = ((value * 0.5 * torch.pi).sin() + eps).pow(self.density_k)
        angle = 2.0 * torch.pi * hue
        return torch.cat([radius * saturation * angle.cos(), radius * saturation * angle.sin(), value], 1)

    def to_rgb(self, img: Tensor) -> Tensor:
        eps = 1e-8
        across, up = img[:, 0].clamp(-1, 1), img[:, 1].clamp(-1, 1)
        value = img[:, 2].clamp(0, 1)
        radius = ((value * 0.5 * torch.pi).sin() + eps).pow(self.density_k.item())
        across, up = (across / (radius + eps)).clamp(-1, 1), (up / (radius + eps)).clamp(-1, 1)
        hue = (torch.atan2(up + eps, across + eps) / (2 * torch.pi)) % 1
        saturation = torch.sqrt(across**2 + up**2 + eps).clamp(0, 1)
        sector = torch.floor(hue * 6.0)
        part = hue * 6.0 - sector
        p, q = value * (1. - saturation), value * (1. - part * saturation)
        t = value * (1. - (1. - part) * saturation)
        red, green, blue = (torch.zeros_like(hue) for _ in range(3))
        for n, (a, b, c) in enumerate([(value, t, p), (q, value, p), (p, value, t), (p, q, value), (t, p, value),
                                       (value, p, q)]):
            at = sector == n
            red[at], green[at], blue[at] = a[at], b[at], c[at]
        return torch.stack([red, green, blue], 1)


class LayerNorm(nn.Module):
    """Over the channels of (B, C, H, W), written out."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Down(nn.Module):

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.prelu = nn.PReLU()
        self.down = nn.Sequential(nn.Conv2d(dim, out, 3, 1, 1, bias=False), nn.UpsamplingBilinear2d(scale_factor=0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.down(x))


class Up(nn.Module):

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.prelu = nn.PReLU()
        self.up_scale = nn.Sequential(nn.Conv2d(dim, out, 3, 1, 1, bias=False), nn.UpsamplingBilinear2d(scale_factor=2))
        self.up = nn.Conv2d(out * 2, out, 1, bias=False)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.prelu(self.up(torch.cat([self.up_scale(x), skip], 1)))


class CAB(nn.Module):

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q, self.q_dwconv = nn.Conv2d(dim, dim, 1, bias=False), nn.Conv2d(dim, dim, 3, 1, 1, groups=dim, bias=False)
        self.kv = nn.Conv2d(dim, dim * 2, 1, bias=False)
        self.kv_dwconv = nn.Conv2d(dim * 2, dim * 2, 3, 1, 1, groups=dim * 2, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        q = self.q_dwconv(self.q(x))
        k, v = self.kv_dwconv(self.kv(y)).chunk(2, dim=1)
        q, k, v = (rearrange(t, 'b (head c) h w -> b head c (h w)', head=self.heads) for t in (q, k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = ((q @ k.transpose(-2, -1)) * self.temperature).softmax(dim=-1)
        return self.project_out(rearrange(attention @ v, 'b head c (h w) -> b (head c) h w', h=h, w=w))


class IEL(nn.Module):

    def __init__(self, dim: int):
        super().__init__()
        hidden = int(dim * 2.66)
        self.project_in = nn.Conv2d(dim, hidden * 2, 1, bias=False)
        self.dwconv = nn.Conv2d(hidden * 2, hidden * 2, 3, 1, 1, groups=hidden * 2, bias=False)
        self.dwconv1 = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden, bias=False)
        self.dwconv2 = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        a, b = torch.tanh(self.dwconv1(a)) + a, torch.tanh(self.dwconv2(b)) + b
        return self.project_out(a * b)


class LCA(nn.Module):

    def __init__(self, dim: int, heads: int, residual: bool):
        super().__init__()
        self.gdfn, self.norm, self.ffn, self.residual = IEL(dim), LayerNorm(dim), CAB(dim, heads), residual

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.ffn(self.norm(x), self.norm(y))
        y = self.gdfn(self.norm(x))
        return x + y if self.residual else y


def _edge(dim: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(dim, out, 3, 1, 0, bias=False))


class CIDNet(nn.Module):
    """The defaults are the published network: 1,975,569 parameters. Sides are multiples of 8."""

    def __init__(self, channels: Sequence[int] = (36, 36, 72, 144), heads: Sequence[int] = (1, 2, 4, 8)):
        super().__init__()
        c1, c2, c3, c4 = channels
        for branch, given, out in (('HV', 3, 2), ('I', 1, 1)):
            self.add_module(f'{branch}E_block0', _edge(given, c1))
            self.add_module(f'{branch}D_block0', _edge(c1, out))
            for i, (a, b) in enumerate(((c1, c2), (c2, c3), (c3, c4)), start=1):
                self.add_module(f'{branch}E_block{i}', Down(a, b))
                self.add_module(f'{branch}D_block{i}', Up(b, a))
            for i, level in enumerate((1, 2, 3, 3, 2, 1), start=1):
                self.add_module(f'{branch}_LCA{i}', LCA(channels[level], heads[level], branch == 'I'))
        self.trans = RGB_HVI()

    def forward(self, x: Tensor) -> Tensor:
        hvi = self.trans.to_hvi(x)
        i = hvi[:, 2:].to(x.dtype)
        i0, h0 = self.IE_block0(i), self.HVE_block0(hvi)
        i1, h1 = self.IE_block1(i0), self.HVE_block1(h0)
        a1, b1 = self.I_LCA1(i1, h1), self.HV_LCA1(h1, i1)
        i2, h2 = self.IE_block2(a1), self.HVE_block2(b1)
        a2, b2 = self.I_LCA2(i2, h2), self.HV_LCA2(h2, i2)
        i3, h3 = self.IE_block3(i2), self.HVE_block3(h2)
        a3, b3 = self.I_LCA3(i3, h3), self.HV_LCA3(h3, i3)
        a4, b4 = self.I_LCA4(a3, b3), self.HV_LCA4(b3, a3)
        i3, h3 = self.ID_block3(a4, a2), self.HVD_block3(b4, b2)
        self.I_LCA5(i3, h3)  # whose result is not used
        h2 = self.HV_LCA5(h3, i3)
        i1, h1 = self.ID_block2(i3, a1), self.HVD_block2(h2, b1)
        a1, b1 = self.I_LCA6(i1, h1), self.HV_LCA6(h1, i1)
        i0, h0 = self.ID_block0(self.ID_block1(a1, i0)), self.HVD_block0(self.HVD_block1(b1, h0))
        return self.trans.to_rgb(torch.cat([h0, i0], 1) + hvi)
