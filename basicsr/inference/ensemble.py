"""Self-ensemble (Timofte et al. 2016): the mean over the eight flips and rotations of the input."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def self_ensemble(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Mean of `forward` over the dihedral group, each result turned back; (B, C, H, W)."""
    total: Any = None
    for flip_h, flip_w, turn in itertools.product((False, True), repeat=3):
        flips = [d for d, used in ((-2, flip_h), (-1, flip_w)) if used]
        t = x.flip(flips)
        y = forward(torch.rot90(t, 1, (-2, -1)) if turn else t)
        y = (torch.rot90(y, 3, (-2, -1)) if turn else y).flip(flips)
        total = y if total is None else total + y
    return total / 8
