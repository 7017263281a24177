"""1x1 convolution by the fastest of two routes."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The 1x1 convolution of (B, I, H, W) with `weight` (O, I).

    Channels-last memory is a matrix of pixels already. On a GPU a matrix product is as fast as cuDNN's convolution, adds
    the bias itself and comes without the kernels that prepare and finish gradients. With one CPU thread PyTorch unfolds
    the image for small convolutions, a product needs no copy; with more, oneDNN's convolution is twice as fast as that.
    """
    if x.is_cuda:
        b, _, h, w = x.shape
        return F.linear(x.permute(0, 2, 3, 1).flatten(0, 2), weight, bias).view(b, h, w, -1).permute(0, 3, 1, 2)
    if not torch.compiler.is_compiling() and x.device.type == 'cpu' and torch.get_num_threads() == 1:
        return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight[:, :, None, None], bias)


class PointwiseLinear(nn.Linear):
    """`nn.Linear` on the channels of (B, C, H, W): a 1x1 convolution whose published weight is (out, in)."""

    casts = ('weight', 'bias')  # under autocast, see basicsr/engine/casting.py

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight, self.bias)


class JoinedLinear(nn.Linear):
    """A part of a wider linear layer that holds its own weight: the call returns it."""

    casts = ('weight', 'bias')  # under autocast, see basicsr/engine/casting.py

    # its parameters alone are the base's
    def forward(self) -> Tensor:  # type: ignore[override]
        return self.weight


class PointwiseConv2d(nn.Conv2d):
    """`nn.Conv2d(in, out, 1)` with the same parameters, (out, in, 1, 1), and the same initial values."""

    casts = ('weight', 'bias')  # under autocast, see basicsr/engine/casting.py

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight.flatten(1), self.bias)
