"""The scan of sequences on the C kernels."""
from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64

import torch
from torch import Tensor

from basicsr.ops.native.library import best_isa, blocks, chunks, loaded, pointer, run


class Sequence(ctypes.Structure):
    """Mirror of the struct of the same name in scan.c."""
    _fields_ = [(name, c_int64) for name in ('batch', 'channels', 'groups', 'length')]
    _fields_ += [(name, c_int32) for name in ('states', 'softplus')]
    _fields_ += [(name, POINTER(c_float)) for name in ('u', 'delta', 'A', 'B', 'C', 'D', 'bias', 'y', 'last', 'starts',
                                                       'dy', 'du', 'd_delta', 'dB', 'dC', 'dA', 'dD', 'd_bias')]


def state_count(batch: int, channels: int, length: int, groups: int, states: int) -> int:
    return batch * groups * blocks(channels // groups) * chunks(length) * states * best_isa()[1]


def _arguments(inputs: list[Tensor], softplus: bool, outputs: dict[str, Tensor | None]) -> Sequence:
    u, _, A, B, *_ = inputs
    batch, channels, length = u.shape
    arrays = dict(zip(('u', 'delta', 'A', 'B', 'C', 'D', 'bias'), inputs)) | outputs
    return Sequence(batch, channels, B.shape[1], length, A.shape[1], int(softplus),
                    **{k: pointer(v) for k, v in arrays.items()})


def forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor, softplus: bool,
            save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See `basicsr.ops.selective_scan.selective_scan`; returns y, the last states, and the saved states."""
    inputs = [t.contiguous() for t in (u, delta, A, B, C, D, bias)]
    batch, channels, length = u.shape
    y, last = torch.empty_like(inputs[0]), u.new_empty(batch, channels, A.shape[1])
    starts = u.new_empty(state_count(batch, channels, length, B.shape[1], A.shape[1]) if save else 0)
    if y.numel():
        run(loaded().sequence_forward,
            _arguments(inputs, softplus, {'y': y, 'last': last, 'starts': starts if save else None}))
    return y, last, starts


def backward(dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor,
             softplus: bool, starts: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the seven tensors."""
    dy, *inputs = [t.contiguous() for t in (dy, u, delta, A, B, C, D, bias)]
    u, delta, A, B, C, D, bias = inputs
    grads = {
        'du': torch.empty_like(u), 'd_delta': torch.empty_like(delta), 'dB': torch.empty_like(B),
        'dC': torch.empty_like(C)
    }
    batch = u.shape[0]
    sums = {k: t.new_empty(batch, *t.shape) for k, t in zip(('dA', 'dD', 'd_bias'), (A, D, bias))}
    if u.numel():
        run(loaded().sequence_backward, _arguments(inputs, softplus, {'starts': starts, 'dy': dy, **grads, **sums}))
    sums = {k: g.sum(0) for k, g in sums.items()}
    return grads['du'], grads['d_delta'], sums['dA'], grads['dB'], grads['dC'], sums['dD'], sums['d_bias']
