"""Exponential moving average of a network."""
from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_ema(average: nn.Module, net: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * net for parameters; buffers are copied.

    Buffers are counters or averages already (running statistics of a batch norm). `decay` 0 copies the network.
    """
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), net.buffers()):
        mine.copy_(theirs)
