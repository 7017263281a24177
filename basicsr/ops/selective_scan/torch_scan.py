"""The selective scan in plain PyTorch: any device, float32 and float64, exact backward, memory of one chunk of states."""
from __future__ import annotations

import torch
from torch import Tensor

from basicsr.ops.selective_scan.chunked import Chunks, chunk_size, in_float32, rate_by_group, softplus


def state_count(batch: int, channels: int, length: int, groups: int, states: int) -> int:
    """Elements that the forward saves for the backward: the states at the start of each chunk."""
    size = chunk_size((batch, groups, states, channels // groups), length)
    return -(-length // size) * batch * channels * states


def forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor, use_softplus: bool,
            save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See `selective_scan`; returns y, the last states (batch, channels, states), and the saved states."""
    dtype = u.dtype
    u, delta, B, C = in_float32(u, delta, B, C)
    turn = _Turn(u, B)
    chunks = Chunks(u, turn.states, u.shape[2], rate_by_group(A, turn.groups))
    h = u.new_zeros(turn.states)
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    starts = u.new_empty(len(chunks.parts) if save else 0, *turn.states)
    for i, part in enumerate(chunks.parts):
        if save:
            starts[i] = h
        dt = turn.to_time(_step(delta[..., part], bias, use_softplus))
        u_t, B_t, C_t = (turn.to_time(x[..., part]) for x in (u, B, C))
        read, h = chunks.forward(dt, u_t, B_t, C_t, h)
        y[..., part] = turn.to_channels(read)
    last = h.transpose(2, 3).reshape(u.shape[0], *A.shape)
    return y.addcmul_(u, D[:, None]).to(dtype), last.contiguous(), starts.flatten()


def backward(dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor,
             use_softplus: bool, starts: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the seven tensors."""
    dtypes = u.dtype, delta.dtype, B.dtype, C.dtype
    dy, u, delta, B, C = in_float32(dy, u, delta, B, C)
    turn = _Turn(u, B)
    chunks = Chunks(u, turn.states, u.shape[2], rate_by_group(A, turn.groups), backward=True)
    starts = starts.view(-1, *turn.states)
    du, d_delta, dB, dC = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (u, delta, B, C))
    d_rate, carry = torch.zeros_like(chunks.rate), u.new_zeros(turn.states)
    for i, part in reversed(list(enumerate(chunks.parts))):
        raw = delta[..., part] + bias[:, None]
        dt = turn.to_time(softplus(raw) if use_softplus else raw)
        u_t, B_t, C_t, dy_t = (turn.to_time(x[..., part]) for x in (u, B, C, dy))
        d_dt, d_u, d_B, d_C, d_r, carry = chunks.backward(dt, u_t, B_t, C_t, dy_t, starts[i], carry)
        d_rate += d_r
        du[..., part], d_delta[..., part] = turn.to_channels(d_u), turn.to_channels(d_dt)
        dB[..., part], dC[..., part] = d_B.permute(1, 2, 3, 0), d_C.permute(1, 2, 3, 0)
        if use_softplus:
            d_delta[..., part] *= torch.sigmoid(raw)
    du.addcmul_(dy, D[:, None])
    dA = d_rate.transpose(1, 2).reshape(A.shape)
    d_direct, d_bias = (dy * u).sum((0, 2)), d_delta.sum((0, 2))
    du, d_delta, dB, dC = (t.to(dtype) for t, dtype in zip((du, d_delta, dB, dC), dtypes))
    return du, d_delta, dA, dB, dC, d_direct, d_bias


class _Turn:
    """Between (batch, channels, time) and (time, batch, groups, width)."""

    def __init__(self, u: Tensor, B: Tensor):
        self.batch, self.channels = u.shape[:2]
        self.groups = B.shape[1]
        self.states = (self.batch, self.groups, B.shape[2], self.channels // self.groups)

    def to_time(self, x: Tensor) -> Tensor:
        return x.reshape(self.batch, self.groups, -1, x.shape[-1]).permute(3, 0, 1, 2).contiguous()

    def to_channels(self, x: Tensor) -> Tensor:
        return x.permute(1, 2, 3, 0).reshape(self.batch, self.channels, -1)


def _step(delta: Tensor, bias: Tensor, use_softplus: bool) -> Tensor:
    raw = delta + bias[:, None]
    return softplus(raw) if use_softplus else raw
