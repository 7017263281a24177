"""1x1 convolution as one matrix product over pixels."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PointwiseConv2d(nn.Conv2d):
    """`nn.Conv2d(in, out, 1)` with the same parameters, (out, in, 1, 1), and the same initial values.

    Channels-last memory is a matrix of pixels already, so the product needs no copy and its result is channels-last.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
