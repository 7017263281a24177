"""NAFNet (arXiv 2204.04676) and DarkIR (arXiv 2412.13443) structured as published; names of their checkpoints.

Peers to measure against. Their layer normalisation has a derivative of its own, which keeps two tensors for the backward.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Normalise(torch.autograd.Function):
    """Over the channels of (B, C, H, W); keeps the normalised values and the variance."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        y = (x - mean) / (variance + eps).sqrt()
        ctx.save_for_backward(y, variance, weight)
        ctx.eps = eps
        return weight[:, None, None] * y + bias[:, None, None]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        y, variance, weight = ctx.saved_tensors
        scaled = grad * weight[:, None, None]
        mean = scaled.mean(1, keepdim=True)
        along = (scaled * y).mean(1, keepdim=True)
        gx = (scaled - y * along - mean) / (variance + ctx.eps).sqrt()
        return gx, (grad * y).sum((0, 2, 3)), grad.sum((0, 2, 3)), None


class LayerNorm2d(nn.Module):

    def __init__(self, c: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c))
        self.bias = nn.Parameter(torch.zeros(c))

    def forward(self, x: Tensor) -> Tensor:
        return _Normalise.apply(x, self.weight, self.bias, 1e-6)


def gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return a * b


def pooled(c: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))


class _Block(nn.Module):

    def __init__(self, c: int):
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.conv1 = nn.Conv2d(c, 2 * c, 1)
        self.sca = pooled(c)
        self.conv3 = nn.Conv2d(c, c, 1)
        self.norm1, self.norm2 = LayerNorm2d(c), LayerNorm2d(c)


class NAFBlock(_Block):

    def __init__(self, c: int):
        super().__init__(c)
        self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.conv4, self.conv5 = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.conv3(y * self.sca(y)) * self.beta
        return x + self.conv5(gate(self.conv4(self.norm2(x)))) * self.gamma


class FreMLP(nn.Module):

    def __init__(self, c: int):
        super().__init__()
        self.process1 = nn.Sequential(nn.Conv2d(c, 2 * c, 1), nn.LeakyReLU(0.1), nn.Conv2d(2 * c, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        spectrum = torch.fft.rfft2(x)
        magnitude, phase = self.process1(spectrum.abs()), spectrum.angle()
        return torch.fft.irfft2(torch.complex(magnitude * phase.cos(), magnitude * phase.sin()), s=(h, w))


class Branch(nn.Module):

    def __init__(self, c: int, dilation: int):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(c, c, 3, padding=dilation, dilation=dilation, groups=c))

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x)


class EBlock(_Block):

    def __init__(self, c: int):
        super().__init__(c)
        self.extra_conv = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.branches = nn.ModuleList([Branch(2 * c, 1)])
        self.freq = FreMLP(c)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.extra_conv(self.norm1(x)))
        y = gate(sum(branch(y) for branch in self.branches))
        x = x + self.conv3(self.sca(y) * y) * self.beta
        return x + x * self.freq(self.norm2(x)) * self.gamma


class DBlock(_Block):

    def __init__(self, c: int, dilations: Sequence[int]):
        super().__init__(c)
        self.extra_conv = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=c)
        self.branches = nn.ModuleList(Branch(2 * c, d) for d in dilations)
        self.conv4, self.conv5 = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.extra_conv(self.conv1(self.norm1(x)))
        y = gate(sum(branch(y) for branch in self.branches))
        x = x + self.conv3(self.sca(y) * y) * self.beta
        return x + self.conv5(gate(self.conv4(self.norm2(x)))) * self.gamma


class _UNet(nn.Module, ABC):

    def __init__(self, width: int, levels: int):
        super().__init__()
        self.intro, self.ending = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        widths = [width * 2**i for i in range(levels)]
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, 2) for c in widths)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1, bias=False), nn.PixelShuffle(2)) for c in reversed(widths))

    @abstractmethod
    def middle(self, x: Tensor) -> Tensor:
        """The deepest level."""

    def forward(self, img: Tensor) -> Tensor:
        h, w = img.shape[-2:]
        multiple = 2**len(self.downs)
        img = F.pad(img, (0, -w % multiple, 0, -h % multiple))
        x, skips = self.intro(img), []
        for encoder, down in zip(self.encoders, self.downs):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for decoder, up, skip in zip(self.decoders, self.ups, reversed(skips)):
            x = decoder(up(x) + skip)
        return (self.ending(x) + img)[..., :h, :w]


class NAFNet(_UNet):
    """The defaults are those of SIDD with a width of 32: 29,159,715 parameters."""

    def __init__(self, width: int = 32, enc: Sequence[int] = (2, 2, 4, 8), mid: int = 12,
                 dec: Sequence[int] = (2, 2, 2, 2)):
        super().__init__(width, len(enc))
        depth = len(enc)
        self.encoders = nn.ModuleList(
            nn.Sequential(*(NAFBlock(width * 2**i) for _ in range(n))) for i, n in enumerate(enc))
        self.decoders = nn.ModuleList(
            nn.Sequential(*(NAFBlock(width * 2**(depth - 1 - i)) for _ in range(n))) for i, n in enumerate(dec))
        self.middle_blks = nn.Sequential(*(NAFBlock(width * 2**depth) for _ in range(mid)))

    def middle(self, x: Tensor) -> Tensor:
        return self.middle_blks(x)


class WindowMean(nn.Module):
    """Mean of a window around each pixel by an integral image, the borders repeated; of all where the window holds it."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        if self.side >= max(h, w):
            return x.mean((-2, -1), keepdim=True)
        kh, kw = min(self.side, h), min(self.side, w)
        sums = F.pad(x.cumsum(-1).cumsum(-2), (1, 0, 1, 0))
        means = (sums[..., kh:, kw:] + sums[..., :-kh, :-kw] - sums[..., :-kh, kw:] - sums[..., kh:, :-kw]) / (kh * kw)
        left, top = (w - means.shape[-1]) // 2, (h - means.shape[-2]) // 2
        return F.pad(means, (left, w - means.shape[-1] - left, top, h - means.shape[-2] - top), 'replicate')


class NAFNetLocal(NAFNet):
    """For patches of 256 pixels: windows of 384 at full size. The defaults are those of GoPro with a width of 32."""

    def __init__(self, width: int = 32, enc: Sequence[int] = (1, 1, 1, 28), mid: int = 1,
                 dec: Sequence[int] = (1, 1, 1, 1)):
        super().__init__(width, enc, mid, dec)
        levels = [*self.encoders, self.middle_blks, *reversed(self.decoders)]
        for i, level in enumerate(levels):
            for block in level:
                block.sca[0] = WindowMean(384 >> (i if i <= len(enc) else i - len(enc) - 1))


class _Level(nn.Module):

    def __init__(self, *blocks: nn.Module):
        super().__init__()
        self.modules_list = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.modules_list(x)


class DarkIR(_UNet):
    """The defaults are DarkIR-m: 3,321,638 parameters."""

    def __init__(self, width: int = 32, mid: tuple[int, int] = (2, 2), enc: Sequence[int] = (1, 2, 3),
                 dec: Sequence[int] = (3, 1, 1), dilations: Sequence[int] = (1, 4, 9)):
        super().__init__(width, len(enc))
        depth = len(enc)
        inner = width * 2**depth
        self.encoders = nn.ModuleList(_Level(*(EBlock(width * 2**i) for _ in range(n))) for i, n in enumerate(enc))
        self.decoders = nn.ModuleList(
            _Level(*(DBlock(width * 2**(depth - 1 - i), dilations) for _ in range(n))) for i, n in enumerate(dec))
        self.middle_blks_enc = _Level(*(EBlock(inner) for _ in range(mid[0])))
        self.middle_blks_dec = _Level(*(DBlock(inner, dilations) for _ in range(mid[1])))
        self.side_out = nn.Conv2d(inner, 3, 3, padding=1)

    def middle(self, x: Tensor) -> Tensor:
        light = self.middle_blks_enc(x)
        return self.middle_blks_dec(light) + light
