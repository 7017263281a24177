"""The four-direction scan on the C kernels."""
from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64

import torch
from torch import Tensor

from basicsr.ops.native.library import best_isa, blocks, chunks, loaded, pointer, run, threads


class Ss2d(ctypes.Structure):
    """Mirror of the struct of the same name in scan.c."""
    _fields_ = [(name, c_int64) for name in ('batch', 'height', 'width', 'channels')]
    _fields_ += [(name, c_int32) for name in ('states', 'rank')]
    _fields_ += [(name, POINTER(c_float)) for name in ('x', 'x_dbl', 'dt_w', 'dt_b', 'A', 'D', 'y', 'starts', 'dy',
                                                       'dx', 'dx_dbl', 'd_dt_w', 'd_dt_b', 'dA', 'dD', 'carried')]


def state_count(batch: int, height: int, width: int, channels: int, states: int) -> int:
    """Floats that the forward saves for the backward."""
    return batch * blocks(channels) * 4 * chunks(height * width) * states * best_isa()[1]


def _arguments(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
               **outputs: Tensor | None) -> Ss2d:
    batch, height, width, channels = x.shape
    arrays = {'x': x, 'x_dbl': x_dbl, 'dt_w': dt_w, 'dt_b': dt_b, 'A': A, 'D': D, **outputs}
    return Ss2d(batch, height, width, channels, A.shape[1], dt_w.shape[2], **{k: pointer(v) for k, v in arrays.items()})


def forward(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
            save: bool) -> tuple[Tensor, Tensor]:
    """See `basicsr.ops.ss2d.ss2d_scan`; also returns the saved states (empty unless `save`)."""
    inputs = [t.contiguous() for t in (x, x_dbl, dt_w, dt_b, A, D)]
    y = torch.empty_like(inputs[0])
    starts = x.new_empty(state_count(x.shape[0], x.shape[1], x.shape[2], x.shape[3], A.shape[1]) if save else 0)
    if y.numel():
        run(loaded().ss2d_forward, _arguments(*inputs, y=y, starts=starts if save else None))
    return y, starts


def part(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor, columns: bool, start: int,
         state: Tensor, y: Tensor) -> None:
    """See `basicsr.ops.ss2d.ss2d_part`."""
    parameters = [t.contiguous() for t in (dt_w, dt_b, A, D)]
    if x_dbl.numel():
        run(loaded().ss2d_part, _arguments(x, x_dbl, *parameters, y=y, carried=state), int(columns), c_int64(start),
            c_int64(x_dbl.shape[3 if columns else 2]))


def backward(dy: Tensor, x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
             starts: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the six inputs."""
    dy, *inputs = [t.contiguous() for t in (dy, x, x_dbl, dt_w, dt_b, A, D)]
    batch, workers = x.shape[0], threads()
    parts = 1 if batch >= workers else 2 if 2 * batch >= workers else 4
    dx = x.new_empty(parts, *x.shape) if parts > 1 else torch.empty_like(inputs[0])
    dx_dbl = torch.empty_like(inputs[1])
    of_parameters = {k: t.new_empty(batch, *t.shape) for k, t in zip(('d_dt_w', 'd_dt_b', 'dA', 'dD'), inputs[2:])}
    if x.numel():
        run(loaded().ss2d_backward, _arguments(*inputs, starts=starts, dy=dy, dx=dx, dx_dbl=dx_dbl, **of_parameters),
            parts)
    return dx.sum(0) if parts > 1 else dx, dx_dbl, *(g.sum(0) for g in of_parameters.values())
