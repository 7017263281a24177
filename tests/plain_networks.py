"""Retinexformer and Restormer written down the obvious way: separate projections, permutations, norms by hand.

The reference that the fast networks are compared with, in tests (results) and benchmarks (time, memory). Keys are the
published ones, so weights go from one to the other.
"""
from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LightUp(nn.Module):
    """Estimator: illumination features and the map that lights the image up."""

    def __init__(self, n: int):
        super().__init__()
        self.conv1 = nn.Conv2d(4, n, 1)
        self.depth_conv = nn.Conv2d(n, n, 5, padding=2, groups=4)
        self.conv2 = nn.Conv2d(n, 3, 1)

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        features = self.depth_conv(self.conv1(torch.cat([img, img.mean(1, keepdim=True)], 1)))
        return features, self.conv2(features)


class GuidedAttention(nn.Module):
    """On (B, H, W, C); the illumination multiplies the values."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.rescale = nn.Parameter(torch.ones(heads, 1, 1))
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.proj = nn.Linear(dim, dim)
        self.pos_emb = nn.Sequential(nn.Conv2d(dim, dim, 3, 1, 1, bias=False, groups=dim), nn.GELU(),
                                     nn.Conv2d(dim, dim, 3, 1, 1, bias=False, groups=dim))

    def forward(self, x: Tensor, light: Tensor) -> Tensor:
        b, h, w, c = x.shape

        def split(t: Tensor) -> Tensor:  # (B, heads, HW, d)
            return t.reshape(b, h * w, self.heads, c // self.heads).permute(0, 2, 1, 3)

        flat = x.reshape(b, h * w, c)
        v_input = self.to_v(flat)
        q, k, v = split(self.to_q(flat)), split(self.to_k(flat)), split(v_input) * split(light)
        q, k, v = (t.transpose(-2, -1) for t in (q, k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = (k @ q.transpose(-2, -1) * self.rescale).softmax(dim=-1)
        out = self.proj((attention @ v).permute(0, 3, 1, 2).reshape(b, h * w, c)).view(b, h, w, c)
        return out + self.pos_emb(v_input.view(b, h, w, c).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class WideFeedForward(nn.Module):

    def __init__(self, dim: int):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(dim, dim * 4, 1, bias=False), nn.GELU(),
                                 nn.Conv2d(dim * 4, dim * 4, 3, 1, 1, bias=False, groups=dim * 4), nn.GELU(),
                                 nn.Conv2d(dim * 4, dim, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)


class Normed(nn.Module):

    def __init__(self, dim: int, fn: nn.Module):
        super().__init__()
        self.fn, self.norm = fn, nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class GuidedBlocks(nn.Module):

    def __init__(self, dim: int, heads: int, count: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList([GuidedAttention(dim, heads), Normed(dim, WideFeedForward(dim))]) for _ in range(count))

    def forward(self, x: Tensor, light: Tensor) -> Tensor:
        x, light = x.permute(0, 2, 3, 1), light.permute(0, 2, 3, 1)
        for attention, ffn in self.blocks:
            x = attention(x, light) + x
            x = ffn(x) + x
        return x.permute(0, 3, 1, 2)


class Denoiser(nn.Module):

    def __init__(self, n: int, num_blocks: list[int]):
        super().__init__()
        self.embedding = nn.Conv2d(3, n, 3, 1, 1, bias=False)
        self.encoder_layers, self.decoder_layers = nn.ModuleList(), nn.ModuleList()
        for i in range(2):
            c = n * 2**i
            self.encoder_layers.append(
                nn.ModuleList([
                    GuidedBlocks(c, c // n, num_blocks[i]),
                    nn.Conv2d(c, 2 * c, 4, 2, 1, bias=False),
                    nn.Conv2d(c, 2 * c, 4, 2, 1, bias=False)
                ]))
        self.bottleneck = GuidedBlocks(4 * n, 4, num_blocks[-1])
        for i in (1, 0):
            c = n * 2**i
            self.decoder_layers.append(
                nn.ModuleList([
                    nn.ConvTranspose2d(2 * c, c, 2, 2),
                    nn.Conv2d(2 * c, c, 1, bias=False),
                    GuidedBlocks(c, c // n, num_blocks[i])
                ]))
        self.mapping = nn.Conv2d(n, 3, 3, 1, 1, bias=False)

    def forward(self, img: Tensor, light: Tensor) -> Tensor:
        x, skips, lights = self.embedding(img), [], []
        for body, down, light_down in self.encoder_layers:
            x = body(x, light)
            skips.append(x)
            lights.append(light)
            x, light = down(x), light_down(light)
        x = self.bottleneck(x, light)
        for up, fuse, body in self.decoder_layers:
            x = body(fuse(torch.cat([up(x), skips.pop()], 1)), lights.pop())
        return self.mapping(x) + img


class Stage(nn.Module):

    def __init__(self, n: int, num_blocks: list[int]):
        super().__init__()
        self.estimator, self.denoiser = LightUp(n), Denoiser(n, num_blocks)

    def forward(self, img: Tensor) -> Tensor:
        light, light_map = self.estimator(img)
        return self.denoiser(img * light_map + img, light)


class PlainRetinexFormer(nn.Module):
    """For sizes that are multiples of 4."""

    def __init__(self, n_feat: int = 40, stage: int = 1, num_blocks: tuple[int, ...] = (1, 2, 2)):
        super().__init__()
        self.body = nn.Sequential(*(Stage(n_feat, list(num_blocks)) for _ in range(stage)))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class HandWrittenNorm(nn.Module):

    def __init__(self, dim: int, centred: bool):
        super().__init__()
        self.body = nn.Module()
        self.body.weight = nn.Parameter(torch.ones(dim))
        if centred:
            self.body.bias = nn.Parameter(torch.zeros(dim))
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).reshape(b, h * w, c)
        deviation = torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)
        if self.centred:
            x = (x - x.mean(-1, keepdim=True)) / deviation * self.body.weight + self.body.bias
        else:
            x = x / deviation * self.body.weight
        return x.reshape(b, h, w, c).permute(0, 3, 1, 2)


class MDTA(nn.Module):

    def __init__(self, dim: int, heads: int, bias: bool):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, 1, 1, groups=3 * dim, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        heads = len(self.temperature)
        q, k, v = (t.reshape(b, heads, c // heads, h * w) for t in self.qkv_dwconv(self.qkv(x)).chunk(3, 1))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.project_out((attention @ v).reshape(b, c, h, w))


class GDFN(nn.Module):

    def __init__(self, dim: int, factor: float, bias: bool):
        super().__init__()
        hidden = int(dim * factor)
        self.project_in = nn.Conv2d(dim, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, 1, 1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.dwconv(self.project_in(x)).chunk(2, 1)
        return self.project_out(F.gelu(a) * b)


class Block(nn.Module):

    def __init__(self, dim: int, heads: int, factor: float, bias: bool, centred: bool):
        super().__init__()
        self.norm1, self.attn = HandWrittenNorm(dim, centred), MDTA(dim, heads, bias)
        self.norm2, self.ffn = HandWrittenNorm(dim, centred), GDFN(dim, factor, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


def rescale(dim: int, out: int, shuffle: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(body=nn.Sequential(nn.Conv2d(dim, out, 3, 1, 1, bias=False), shuffle)))


class PlainRestormer(nn.Module):
    """For sizes that are multiples of 8; without the dual-pixel task."""

    def __init__(self, dim: int = 48, num_blocks: tuple[int, ...] = (4, 6, 6, 8), num_refinement_blocks: int = 4,
                 heads: tuple[int, ...] = (1, 2, 4, 8), bias: bool = False, LayerNorm_type: str = 'WithBias'):
        super().__init__()

        def level(i: int, width: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(Block(width, heads[i], 2.66, bias, LayerNorm_type == 'WithBias')
                                   for _ in range(count)))

        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, dim, 3, 1, 1, bias=False)
        self.encoder_level1 = level(0, dim, num_blocks[0])
        self.encoder_level2 = level(1, dim * 2, num_blocks[1])
        self.encoder_level3 = level(2, dim * 4, num_blocks[2])
        self.latent = level(3, dim * 8, num_blocks[3])
        self.down1_2, self.down2_3, self.down3_4 = (rescale(c, c // 2, nn.PixelUnshuffle(2))
                                                    for c in (dim, 2 * dim, 4 * dim))
        self.up4_3, self.up3_2, self.up2_1 = (rescale(c, 2 * c, nn.PixelShuffle(2))
                                              for c in (8 * dim, 4 * dim, 2 * dim))
        self.reduce_chan_level3 = nn.Conv2d(dim * 8, dim * 4, 1, bias=bias)
        self.reduce_chan_level2 = nn.Conv2d(dim * 4, dim * 2, 1, bias=bias)
        self.decoder_level3 = level(2, dim * 4, num_blocks[2])
        self.decoder_level2 = level(1, dim * 2, num_blocks[1])
        self.decoder_level1 = level(0, dim * 2, num_blocks[0])
        self.refinement = level(0, dim * 2, num_refinement_blocks)
        self.output = nn.Conv2d(dim * 2, 3, 3, 1, 1, bias=bias)

    def forward(self, img: Tensor) -> Tensor:
        e1 = self.encoder_level1(self.patch_embed.proj(img))
        e2 = self.encoder_level2(self.down1_2(e1))
        e3 = self.encoder_level3(self.down2_3(e2))
        x = self.latent(self.down3_4(e3))
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(x), e3], 1)))
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x), e2], 1)))
        x = self.refinement(self.decoder_level1(torch.cat([self.up2_1(x), e1], 1)))
        return self.output(x) + img
