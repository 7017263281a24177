"""The all-in-one network with plain skip connections."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from basicsr.archs.layers.pointwise import PointwiseConv2d
from basicsr.archs.lora_gate_restormer_arch import ImprovedLoRaGateRestormer
from basicsr.utils.registry import ARCH_REGISTRY


class Merge(nn.Module):
    """Concatenation and a 1x1 convolution, Restormer's skip connection: CSFF without refinement and attention."""

    def __init__(self, encoder_dim: int, decoder_dim: int):
        super().__init__()
        self.conv_merge = PointwiseConv2d(encoder_dim + decoder_dim, decoder_dim, bias=False)

    def forward(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        return self.conv_merge(torch.cat([encoder, decoder], dim=1))


@ARCH_REGISTRY.register()
class ImprovedLoRaGateRestormerWithoutCSFF(ImprovedLoRaGateRestormer):
    """`ImprovedLoRaGateRestormer` whose skips are merged by a 1x1 convolution: 24,960,752 parameters."""

    fusion = Merge
