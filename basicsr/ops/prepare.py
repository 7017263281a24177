"""What a network's operators need before its first step: kernels that are compiled on first use, all of them now."""
from __future__ import annotations

import pkgutil

import torch
from torch import nn

from basicsr.ops.backend import choose
from basicsr.ops.backend_table import BACKENDS


def prepare(net: nn.Module, device: torch.device, dtype: torch.dtype | None = None, training: bool = True) -> int:
    """Compile the kernels of every scan in `net` side by side, with a line in the log that says how far it is.

    Without it they are compiled one after the other, each when the first step comes to it.

    Args:
        net: its modules say what they scan by an attribute `scan_kind`, (states, rank, channels); what lies in a part that
            is `exact` scans in float32 under autocast.
        device: where it will run; nothing is compiled ahead for a CPU.
        dtype: of autocast, None for float32.
        training: with the backward.

    Returns:
        The number of kernels.
    """
    dtype = dtype or torch.float32
    exact = {m for part in net.modules() if getattr(part, 'exact', False) for m in part.modules()}
    scans = dict.fromkeys((*kind, torch.float32 if m in exact else dtype) for m in net.modules()
                          if (kind := getattr(m, 'scan_kind', None)))
    if not scans or device.type == 'cpu':
        return 0
    ahead = BACKENDS[choose('ss2d', torch.empty(0, device=device, dtype=dtype))].prepare
    return pkgutil.resolve_name(ahead)(list(scans), device, training) if ahead else 0
