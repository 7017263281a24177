"""Stochastic depth (Huang et al. 2016): in training a branch is left out for some samples."""
from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """A sample's branch is kept with probability 1 - `rate`, and divided by that; nothing in evaluation."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))
