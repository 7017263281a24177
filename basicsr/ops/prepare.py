"""What a network's operators need before its first step: kernels that are compiled on first use, all of them now."""
from __future__ import annotations

import torch
from torch import nn

from basicsr.ops.backend import choose


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
    kinds = dict.fromkeys(
        (*m.scan_kind, torch.float32 if m in exact else dtype) for m in net.modules() if hasattr(m, 'scan_kind'))
    if not kinds or device.type != 'cuda':
        return 0
    backend = choose('ss2d', torch.empty(0, device=device, dtype=dtype))
    if backend == 'cuda':
        from basicsr.ops.cuda.plans import Kind
        from basicsr.ops.cuda.prepare import compile_kinds
        return compile_kinds([Kind(n, r, t, channels % 2 == 0) for n, r, channels, t in kinds], device)
    if backend != 'triton':
        return 0
    from basicsr.ops.selective_scan.triton_compile import ScanKind, compile_scans
    return compile_scans([ScanKind(n, r, t, training) for n, r, _, t in kinds], device)
