"""Parts of a network that stay in full precision under autocast."""
from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn


def exact(x: Tensor, wanted: bool = True) -> AbstractContextManager:
    """Where `wanted`, autocast is off; what is read inside then has to be of the parameters' type."""
    device = x.device.type
    return torch.autocast(device, enabled=not wanted and torch.is_autocast_enabled(device))


def lowered(x: Tensor) -> Tensor:
    """x in the type that autocast gives the results of products; without autocast as it is."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def widened(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)` with its parameters in the type of x, which may be a wider one than theirs."""
    if all(p.dtype == x.dtype for p in layer.parameters()):
        return layer(x)
    return torch.func.functional_call(layer, {name: p.to(x.dtype) for name, p in layer.named_parameters()}, x)
