"""Mixture of convolutional feed-forward experts, routed by image (ISALux, Balmez et al. 2025)."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from basicsr.archs.layers.experts import mixture
from basicsr.archs.layers.feedforward import FeedForward
from basicsr.archs.layers.full_precision import widened
from basicsr.archs.layers.strips import in_strips
from basicsr.archs.layers.whole_image import image_mean
from basicsr.utils.precision import at_least_float32


class Expert(FeedForward):
    """1x1 convolution, GELU, depthwise 3x3, GELU, 1x1 on (B, C, H, W), all with biases."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__(dim, hidden_dim, bias=True)
        self.hidden_dim = hidden_dim

    def forward(self, x: Tensor) -> Tensor:
        return in_strips(super().forward, x, channels=self.hidden_dim, halo=1)


class MOE_FFN(nn.Module):
    """Mixture of experts: each image chooses `top_k` of them by its mean features; their weights then sum to 1."""

    def __init__(self, dim: int, hidden_dim: int, num_experts: int = 4, top_k: int = 2):
        super().__init__()
        if not 1 <= top_k <= num_experts:
            raise ValueError(f'MOE_FFN: top_k must be from 1 to the number of experts ({num_experts}), not {top_k}')
        self.top_k = top_k
        self.gating_fc = nn.Linear(dim, num_experts)
        self.experts = nn.ModuleList(Expert(dim, hidden_dim) for _ in range(num_experts))

    def forward(self, u: Tensor) -> Tensor:
        """(B, H, W, C) to the same."""
        gates, chosen = self.route(u)
        return mixture(self.experts, gates, chosen, u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def route(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (B, num_experts), zero but for the chosen, and the numbers of the chosen (B, top_k); in float32."""
        exact = at_least_float32(u.dtype)
        with torch.autocast(u.device.type, enabled=False):
            # PyTorch 2.6 converts to ONNX neither a mean with a type nor, with the oldest onnxscript, a scattered tensor
            mean = image_mean(u.permute(0, 3, 1, 2), None if u.dtype == exact else exact).flatten(1)
            logits = widened(self.gating_fc, mean)
            chosen = logits.topk(self.top_k, dim=-1).indices
            # the softmax over all experts, divided by the sum of the chosen, is the softmax over the chosen
            gates = (logits + torch.full_like(logits, -math.inf).scatter(1, chosen, 0.)).softmax(dim=-1)
        return gates, chosen
