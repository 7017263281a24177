"""Exponential moving average of a network."""
from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_ema(average: nn.Module, net: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * net, for parameters and floating-point buffers; others are copied.

    `decay` 0 copies the network.
    """
    mine, theirs = average.state_dict(), net.state_dict()
    floating = [k for k, v in mine.items() if v.is_floating_point()]
    torch._foreach_lerp_([mine[k] for k in floating], [theirs[k] for k in floating], 1 - decay)
    for key in mine.keys() - floating:
        mine[key].copy_(theirs[key])
