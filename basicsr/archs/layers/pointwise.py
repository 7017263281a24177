"""1x1 convolution by the faster of two routes."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The 1x1 convolution of (B, I, H, W) with `weight` (O, I).

    With one CPU thread PyTorch unfolds the image for small convolutions; channels-last memory is a matrix of pixels
    already, so a matrix product needs no copy. With more threads oneDNN's convolution is about twice as fast as that.
    """
    if not torch.compiler.is_compiling() and x.device.type == 'cpu' and torch.get_num_threads() == 1:
        return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight[:, :, None, None], bias)


class PointwiseConv2d(nn.Conv2d):
    """`nn.Conv2d(in, out, 1)` with the same parameters, (out, in, 1, 1), and the same initial values."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight.flatten(1), self.bias)
