"""Retinexformer (Cai et al. 2023, arXiv 2303.06705) structured as published; parameter names of its checkpoints.

A peer to measure against: separate q, k, v, a permuted copy between attention and feed-forward, no fusing.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class IlluminationEstimator(nn.Module):
    """(B, 3, H, W) to illumination features (B, dim, H, W) and light-up map (B, 3, H, W)."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = nn.Conv2d(4, dim, 1)
        self.depth_conv = nn.Conv2d(dim, dim, 5, padding=2, groups=4)
        self.conv2 = nn.Conv2d(dim, 3, 1)

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        mean = img.mean(dim=1).unsqueeze(1)
        features = self.depth_conv(self.conv1(torch.cat([img, mean], dim=1)))
        return features, self.conv2(features)


class PreNorm(nn.Module):

    def __init__(self, dim: int, fn: nn.Module):
        super().__init__()
        self.fn = fn
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class FeedForward(nn.Module):
    """(B, H, W, C) to the same, in (B, C, H, W) inside."""

    def __init__(self, dim: int, mult: int = 4):
        super().__init__()
        hidden = dim * mult
        self.net = nn.Sequential(nn.Conv2d(dim, hidden, 1, bias=False), nn.GELU(),
                                 nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False), nn.GELU(),
                                 nn.Conv2d(hidden, dim, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)


class IlluminationGuidedAttention(nn.Module):
    """Channel attention with values multiplied by the illumination features; all tensors (B, H, W, C)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(dim, dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.rescale = nn.Parameter(torch.ones(heads, 1, 1))
        self.proj = nn.Linear(dim, dim)
        self.pos_emb = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False), nn.GELU(),
                                     nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False))

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        b, h, w, c = x.shape
        x = x.reshape(b, h * w, c)
        value = self.to_v(x)
        q, k, v, light = (t.reshape(b, h * w, self.heads, -1).permute(0, 2, 1, 3)
                          for t in (self.to_q(x), self.to_k(x), value, illumination))
        q, k, v = (t.transpose(-2, -1) for t in (q, k, v * light))  # (b, heads, channels of a head, pixels)
        q, k = F.normalize(q, dim=-1, p=2), F.normalize(k, dim=-1, p=2)
        attention = (k @ q.transpose(-2, -1) * self.rescale).softmax(dim=-1)
        out = (attention @ v).permute(0, 3, 1, 2).reshape(b, h * w, c)
        out = self.proj(out).view(b, h, w, c)
        position = self.pos_emb(value.reshape(b, h, w, c).permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)
        return out + position


class IGAB(nn.Module):
    """Blocks of attention and feed-forward on (B, C, H, W)."""

    def __init__(self, dim: int, heads: int, num_blocks: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList([IlluminationGuidedAttention(dim, heads),
                           PreNorm(dim, FeedForward(dim))]) for _ in range(num_blocks))

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        for attention, ffn in self.blocks:
            x = attention(x, illumination.permute(0, 2, 3, 1)) + x
            x = ffn(x) + x
        return x.permute(0, 3, 1, 2)


class Denoiser(nn.Module):
    """The U-Net of two levels. `body(dim, num_blocks, depth)` makes the blocks of one place, `depth` growing inwards."""

    def __init__(self, dim: int, num_blocks: Sequence[int], body: Callable[[int, int, int], nn.Module]):
        super().__init__()
        self.embedding = nn.Conv2d(3, dim, 3, padding=1, bias=False)
        self.encoder_layers = nn.ModuleList(
            nn.ModuleList([
                body(width, num_blocks[i], i),
                nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False),
                nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False),
            ]) for i, width in enumerate([dim, dim * 2]))
        self.bottleneck = body(dim * 4, num_blocks[-1], 2)
        self.decoder_layers = nn.ModuleList(
            nn.ModuleList([
                nn.ConvTranspose2d(width * 2, width, 2, stride=2),
                nn.Conv2d(width * 2, width, 1, bias=False),
                body(width, num_blocks[1 - i], 2 - i),
            ]) for i, width in enumerate([dim * 2, dim]))
        self.mapping = nn.Conv2d(dim, 3, 3, padding=1, bias=False)

    def forward(self, img: Tensor, illumination: Tensor) -> Tensor:
        x, skips = self.embedding(img), []
        for body, down, illumination_down in self.encoder_layers:
            x = body(x, illumination)
            skips.append((x, illumination))
            x, illumination = down(x), illumination_down(illumination)
        x = self.bottleneck(x, illumination)
        for up, fuse, body in self.decoder_layers:
            skip, illumination = skips.pop()
            x = body(fuse(torch.cat([up(x), skip], dim=1)), illumination)
        return self.mapping(x) + img


class Stage(nn.Module):

    def __init__(self, n_feat: int, num_blocks: Sequence[int]):
        super().__init__()
        self.estimator = IlluminationEstimator(n_feat)
        self.denoiser = Denoiser(n_feat, num_blocks, lambda dim, blocks, _: IGAB(dim, dim // n_feat, blocks))

    def forward(self, img: Tensor) -> Tensor:
        illumination, light_map = self.estimator(img)
        return self.denoiser(img * light_map + img, illumination)


class RetinexFormer(nn.Module):
    """(B, 3, H, W), H and W multiples of 4, to the same. The defaults are the official options: 1,605,701 parameters."""

    def __init__(self, n_feat: int = 40, stage: int = 1, num_blocks: Sequence[int] = (1, 2, 2)):
        super().__init__()
        self.body = nn.Sequential(*(Stage(n_feat, num_blocks) for _ in range(stage)))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)
