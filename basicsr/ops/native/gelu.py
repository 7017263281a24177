"""GELU on the C kernels."""
from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int64

import torch
from torch import Tensor

from basicsr.ops.native.library import loaded, pointer, run


class Elements(ctypes.Structure):
    """Mirror of the struct of the same name in scan.c."""
    _fields_ = [('count', c_int64), *((name, POINTER(c_float)) for name in ('x', 'dy', 'out'))]


def forward(x: Tensor) -> Tensor:
    """GELU of float32 without gaps in memory."""
    return _run(x, None)


def backward(dy: Tensor, x: Tensor) -> Tensor:
    """dy times the derivative; dy of any layout in memory."""
    if dy.stride() != x.stride():
        dy = torch.empty_like(x).copy_(dy)
    return _run(x, dy)


def _run(x: Tensor, dy: Tensor | None) -> Tensor:
    out = torch.empty_like(x)
    if x.numel():
        run(loaded().gelu, Elements(x.numel(), *map(pointer, (x, dy, out))))
    return out
