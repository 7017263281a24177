"""MoCE-IR (Zamfir et al. 2025, arXiv 2411.18466) structured as published; names of its checkpoints.

A peer to measure against, of the plain Restormer's parts. Experts are chosen without noise, and image by image.
"""
from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tests'))  # where the plain Restormer is
from plain_networks import GDFN, MDTA, HandWrittenNorm, rescale


class FrequencyEmbedding(nn.Module):

    def __init__(self, dim: int):
        super().__init__()
        high = nn.Module()
        high.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.high_conv = nn.ModuleList([high])
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(F.gelu(self.high_conv[0].conv(x)).mean((-2, -1)))


class PlainBlock(nn.Module):

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(HandWrittenNorm(dim, True) for _ in range(2))
        self.mixer, self.ffn = MDTA(dim, heads, True), GDFN(dim, 2, True)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.norms[0](x))
        return x + self.ffn(self.norms[1](x))


class CrossAttention(nn.Module):

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q, self.q_dwconv = nn.Conv2d(dim, dim, 1, bias=False), nn.Conv2d(dim, dim, 3, 1, 1, groups=dim, bias=False)
        self.kv = nn.Conv2d(dim, 2 * dim, 1, bias=False)
        self.kv_dwconv = nn.Conv2d(2 * dim, 2 * dim, 7, 1, 3, groups=2 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        q = self.q_dwconv(self.q(x))
        k, v = self.kv_dwconv(self.kv(y)).chunk(2, 1)
        q, k, v = (rearrange(t, 'b (head c) h w -> b head c (h w)', head=self.heads) for t in (q, k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = (q @ k.transpose(-2, -1) * self.temperature).softmax(-1)
        return self.project_out(rearrange(attention @ v, 'b head c (h w) -> b (head c) h w', h=h, w=w))


class FFTAttention(nn.Module):

    def __init__(self, dim: int, patch: int):
        super().__init__()
        self.patch = patch
        self.q, self.q_dwconv = nn.Conv2d(dim, dim, 1, bias=False), nn.Conv2d(dim, dim, 3, 1, 1, groups=dim)
        self.kv, self.kv_dwconv = nn.Conv2d(dim, 2 * dim, 1, bias=False), nn.Conv2d(2 * dim, 2 * dim, 7, 1, 3,
                                                                                    groups=2 * dim)
        self.norm = HandWrittenNorm(dim, True)
        self.proj_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        p = self.patch
        q = self.q_dwconv(self.q(x))
        k, v = self.kv_dwconv(self.kv(x)).chunk(2, 1)
        q, k = (F.pad(t, (0, -w % p, 0, -h % p)) for t in (q, k))
        q, k = (rearrange(t, 'b c (h p1) (w p2) -> b c h w p1 p2', p1=p, p2=p) for t in (q, k))
        y = torch.fft.irfft2(torch.fft.rfft2(q.float()) * torch.fft.rfft2(k.float()), s=(p, p))
        y = rearrange(y, 'b c h w p1 p2 -> b c (h p1) (w p2)')[..., :h, :w]
        return self.proj_out(self.norm(y) * v)


class Expert(nn.Module):

    def __init__(self, dim: int, rank: int, patch: int):
        super().__init__()
        self.proj = nn.ModuleList([
            nn.Conv2d(dim, rank, 1, bias=False),
            nn.Conv2d(dim, rank, 1, bias=False),
            nn.Conv2d(rank, dim, 1, bias=False)
        ])
        self.body = FFTAttention(rank, patch)

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        return x + self.proj[2](self.body(self.proj[0](x)) * F.silu(self.proj[1](shared)))


class Router(nn.Module):

    def __init__(self, dim: int, features: int, parameters: Sequence[int]):
        super().__init__()
        counts = torch.tensor(parameters)
        self.register_buffer('complexity', counts / counts.max())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(dim, len(parameters), bias=False))
        self.freq_gate = nn.Linear(features, len(parameters), bias=False)
        self.loss: Tensor | float = 0.

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Gates (B, experts), zero but for the chosen one."""
        logits = self.gate(x) + self.freq_gate(features)
        noisy = logits + torch.zeros_like(logits) / logits.shape[1]
        probabilities = noisy.softmax(1)
        best, chosen = probabilities.topk(1, 1)
        if self.training:
            threshold = noisy.topk(1, 1).values
            load = (0.5 * torch.erfc((threshold - logits) * logits.shape[1] / math.sqrt(2))).mean(0)
            importance = logits.softmax(1).sum(0)
            self.loss = sum((t.std() / (t.mean() + 1e-8))**2 for t in (importance, load)) / 2
        return torch.zeros_like(probabilities).scatter(1, chosen, best)


class Adapter(nn.Module):

    def __init__(self, dim: int, features: int, ranks: Sequence[int]):
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(Expert(dim, rank, 4 << i)) for i, rank in enumerate(ranks))
        self.proj_out = nn.Conv2d(dim, dim, 1, bias=False)
        self.routing = Router(dim, features, [sum(p.numel() for p in e.parameters()) for e in self.experts])

    def forward(self, x: Tensor, features: Tensor, shared: Tensor) -> Tensor:
        gates = self.routing(x, features)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):  # dispatched to the experts and combined again
            rows = gates[:, i].nonzero()[:, 0]
            if len(rows):
                out = out.index_add(0, rows, gates[rows, i, None, None, None] * expert[0](x[rows], shared[rows]))
        return self.proj_out(out)


class DecoderBlock(nn.Module):

    def __init__(self, dim: int, heads: int, features: int, experts: int):
        super().__init__()
        self.norms = nn.ModuleList(HandWrittenNorm(dim, True) for _ in range(2))
        self.proj = nn.ModuleList(nn.Conv2d(dim, dim, 1) for _ in range(2))
        self.shared, self.mixer = MDTA(dim, heads, False), CrossAttention(dim, heads)
        self.ffn = GDFN(dim, 2, False)
        self.adapter = Adapter(dim, features, [dim >> experts - 1 - e for e in range(experts)])

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        n = self.norms[0](x)
        shared = self.shared(self.proj[0](n))
        x = x + self.mixer(self.adapter(self.proj[1](n), features, shared), shared)
        return x + self.ffn(self.norms[1](x))


class Level(nn.Module):

    def __init__(self, blocks: Sequence[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(blocks)

    def forward(self, x: Tensor, *features: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, *features)
        return x


class MoCEIR(nn.Module):
    """The defaults are the published MoCE-IR: 25,353,796 parameters. Sides are multiples of 8."""

    def __init__(self, dim: int = 48, heads: Sequence[int] = (1, 2, 4, 8), num_blocks: Sequence[int] = (4, 6, 6, 8),
                 num_dec_blocks: Sequence[int] = (2, 4, 4), num_refinement_blocks: int = 4, experts: int = 4):
        super().__init__()
        widths = [dim * 2**i for i in range(4)]

        def plain(c: int, count: int, head_count: int) -> Level:
            return Level([PlainBlock(c, head_count) for _ in range(count)])

        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, dim, 3, 1, 1, bias=False)
        self.freq_embed = FrequencyEmbedding(widths[-1])
        self.enc = nn.ModuleList(
            nn.ModuleList([plain(c, n, h), rescale(c, c // 2, nn.PixelUnshuffle(2))])
            for c, n, h in zip(widths[:3], num_blocks, heads))
        self.latent = plain(widths[-1], num_blocks[-1], heads[-1])
        self.dec = nn.ModuleList(
            nn.ModuleList([
                rescale(2 * c, 4 * c, nn.PixelShuffle(2)),
                nn.Conv2d(2 * c, c, 1, bias=False),
                Level([DecoderBlock(c, h, widths[-1], experts) for _ in range(n)])
            ]) for c, n, h in reversed(list(zip(widths, num_dec_blocks, heads))))
        self.refinement = plain(dim, num_refinement_blocks, heads[0])
        self.output = nn.Conv2d(dim, 3, 3, 1, 1, bias=False)

    def forward(self, img: Tensor) -> Tensor:
        x, skips = self.patch_embed.proj(img), []
        for blocks, down in self.enc:
            x = blocks(x)
            skips.append(x)
            x = down(x)
        x = self.latent(x)
        features = self.freq_embed(x)
        for up, fuse, blocks in self.dec:
            x = blocks(fuse(torch.cat([up(x), skips.pop()], 1)), features)
        return self.output(self.refinement(x)) + img
