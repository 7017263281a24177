"""Depthwise convolutions with dilation, fast on CPUs as well."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WIDEST = 4  # for which oneDNN has a forward kernel on every CPU


class DilatedDepthwiseConv2d(nn.Conv2d):
    """A depthwise 3x3 convolution; the image keeps its size.

    On a CPU oneDNN convolves channels-last images with dilation up to twenty times slower than without, and their gradients
    more so. There the image is taken apart into its phases, every d-th row and column, in which neighbours lie side by side.
    """

    def __init__(self, channels: int, dilation: int):
        super().__init__(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        d = self.dilation[0]
        learns = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        slow = x.device.type == 'cpu' and (d > _WIDEST or (d > 1 and learns))
        if not slow or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return super().forward(x)
        h, w = x.shape[-2:]
        y = F.conv2d(_phases(x, d), self.weight, self.bias, padding=1, groups=self.groups)
        return _together(y, d, -(-h // d), -(-w // d))[..., :h, :w]


def _phases(x: Tensor, d: int) -> Tensor:
    """(B, C, H, W) to (B d d, C, H / d, W / d), rounded up; zeros at the bottom and on the right."""
    h, w = x.shape[-2:]
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -w % d, 0, -h % d))
    return x.unflatten(2, (-1, d)).unflatten(1, (-1, d)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)


def _together(x: Tensor, d: int, rows: int, columns: int) -> Tensor:
    """What `_phases` has taken apart, channels-last."""
    x = x.permute(0, 2, 3, 1).unflatten(0, (-1, d, d)).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(len(x), rows * d, columns * d, -1).permute(0, 3, 1, 2)
