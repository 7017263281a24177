"""Parts of a network that stay in full precision under autocast."""
from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def exact(x: Tensor, wanted: bool = True) -> AbstractContextManager:
    """Where `wanted`, autocast is off; what is read inside then has to be of the parameters' type."""
    device = x.device.type
    return torch.autocast(device, enabled=not wanted and torch.is_autocast_enabled(device))


def lowered(x: Tensor) -> Tensor:
    """x in the type that autocast gives the results of products; without autocast as it is."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x
