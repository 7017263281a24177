"""Compiling the CUDA kernels before they are needed."""
from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch

from basicsr.ops.cuda.driver import architecture
from basicsr.ops.cuda.plans import Kind, choose, machine_code
from basicsr.ops.side_by_side import compile_all


def prepare(scans: Iterable[tuple[int, int, int, torch.dtype]], device: torch.device, training: bool) -> int:
    """The row's `prepare`: one program holds the kernels of the forward and of the backward."""
    return compile_kinds([Kind(n, rank, dtype, channels % 2 == 0) for n, rank, channels, dtype in scans], device)


def compile_kinds(kinds: Iterable[Kind], device: torch.device) -> int:
    """Compile the kernels of these kinds for a device. Returns the number of programs, those in the cache included."""
    arch = architecture(device)
    return compile_all([partial(machine_code, kind, choose(kind, arch), arch) for kind in dict.fromkeys(kinds)])
