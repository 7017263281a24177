"""Types of numbers."""
from __future__ import annotations

import torch


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The type to compute sums of `dtype` in: what `torch.promote_types(dtype, torch.float32)` says of real numbers.

    That call would be part of an exported program, and PyTorch 2.6 cannot load one that contains it.
    """
    return torch.float64 if dtype == torch.float64 else torch.float32
