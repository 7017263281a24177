"""The selective scan of a sequence on the Triton kernels."""
from __future__ import annotations

import torch
from torch import Tensor

from basicsr.ops.selective_scan.triton_launch import Scans, saved_states


def state_count(batch: int, channels: int, length: int, groups: int, states: int) -> int:
    """Floats that the forward saves for the backward."""
    return saved_states(batch, groups, channels // groups, length, states)


def _scans(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor, softplus: bool) -> Scans:
    """Turn to channels-last: copies of what is read once, so that the kernels read it with whole warps."""
    groups, length = B.shape[1], u.shape[2]
    width = u.shape[1] // groups
    rate = A.float().view(groups, width, A.shape[1]).transpose(1, 2).contiguous()
    rows = torch.cat([B, C], dim=2).permute(0, 3, 1, 2).contiguous()
    bias, direct = (x.float().reshape(groups, width).contiguous() for x in (bias, D))
    return Scans(_turn(u), _turn(delta), rows, None, bias, rate, direct, 1, length, width, image=False,
                 softplus=softplus)


def _turn(x: Tensor) -> Tensor:
    return x.transpose(1, 2).contiguous()


def forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor, softplus: bool,
            save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See `selective_scan`; returns y, the last states (batch, channels, states), and the saved states."""
    scans = _scans(u, delta, A, B, C, D, bias, softplus)
    starts, last = scans.starts(scans.value)
    y = _turn(scans.output(starts))
    return y, _turn_last(last, u.shape[0], A), starts.flatten() if save else starts.new_empty(0)


def _turn_last(last: Tensor, batch: int, A: Tensor) -> Tensor:
    """(batch, groups, states, width) to (batch, channels, states)."""
    return last.transpose(2, 3).reshape(batch, *A.shape).contiguous()


def backward(dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor,
             softplus: bool, starts: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the seven tensors."""
    scans = _scans(u, delta, A, B, C, D, bias, softplus)
    dy, d_value = _turn(dy), torch.empty_like(scans.value)
    part, = scans.gradients(dy, starts, d_value)
    # copies even where a half lies as it should, as those of a single scan do: an operator's outputs may not share memory
    dB, dC = (x.transpose(2, 3).clone(memory_format=torch.contiguous_format)
              for x in part.d_rows.split(A.shape[1], dim=3))
    dA = part.d_rate.transpose(1, 2).reshape(A.shape).contiguous()
    dD, d_bias = (dy.float() * scans.value).sum((0, 1)), part.d_step.sum((0, 1))
    return (_turn(d_value), _turn(part.d_step).to(delta.dtype), dA.to(A.dtype), dB.to(B.dtype), dC.to(C.dtype),
            dD.to(D.dtype), d_bias.to(bias.dtype))
