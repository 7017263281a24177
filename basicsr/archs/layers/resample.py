"""Twice as many pixels by a transposed convolution, and the memory in which convolutions like their weights."""
from __future__ import annotations

import torch
from torch import Tensor, nn


class Doubling(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d(in, out, 2, stride=2)`, its parameters and initial values.

    Its windows do not overlap: each pixel becomes four by one matrix product.
    """

    casts = ('weight', 'bias')  # under autocast, see basicsr/engine/casting.py

    bias: nn.Parameter

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 2, stride=2)

    # its parameters alone are the base's
    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """(B, I, H, W) to (B, O, 2 H, 2 W), channels-last in memory; the channels of `skip` are put behind."""
        h, w = x.shape[-2:]
        rows = x.permute(0, 2, 3, 1)
        four = torch.addmm(self.bias.repeat(4), rows.flatten(0, 2), self.weight.permute(0, 2, 3, 1).flatten(1))
        out = four.view(-1, h, w, 2, 2, self.out_channels).transpose(2, 3)
        if skip is not None:  # joined before the pixels go to their places: one copy does both
            out = torch.cat([out, skip.permute(0, 2, 3, 1).unflatten(2, (w, 2)).unflatten(1, (h, 2))], dim=-1)
        return out.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def weights_channels_last(net: nn.Module) -> None:
    """Weights of dense convolutions in the order of channels-last images, else cuDNN gets a copy each time it is called.

    Their gradients come in that order, too. Depthwise and 1x1 weights look the same in both.
    """
    for p in net.parameters():
        if p.dim() == 4 and p.shape[1] > 1 and p.shape[2:].numel() > 1:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
