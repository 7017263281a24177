r"""The selective scan in plain PyTorch operators, with an exact hand-written backward.

The sequence is cut into chunks. Inside a chunk, decay and input of all positions are computed at once; the recurrence
itself is one fused multiply-add per position on a (batch, groups, states, channels) tensor. Only one chunk of states
exists at a time, so memory does not grow with length x states; the backward keeps the state at each chunk's start and
recomputes the rest.

Recurrence, per channel e and state s (Mamba, Gu & Dao 2023, eq. 2):
    h_t = exp(dt_t A_es) h_{t-1} + dt_t B_st u_et        y_t = sum_s C_st h_t + D_e u_et
Its adjoint, with g_t = dL/dh_t:
    g_t = C_st dy_t + exp(dt_{t+1} A_es) g_{t+1}
    dB_st = sum_e g_t dt_t u_et      dC_st = sum_e h_t dy_t      dA_es = sum_t g_t h_{t-1} exp(dt_t A_es) dt_t
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LOG2E = 1 / math.log(2)
# exp2 of less is a subnormal number, which CPUs handle some hundred times slower; the state has long vanished there
_LOWEST_POWER = {torch.float32: -126.0, torch.float64: -1022.0}
_CHUNK_ELEMENTS = 1 << 18  # states of one chunk: about what fits in a core's cache together with the decay


class TorchScan(torch.autograd.Function):
    """Inputs as `selective_scan`, with B and C of shape (batch, groups, states, length), D and delta_bias given."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, delta_bias, softplus: bool) -> Tensor:
        plan = _Plan(u, A, B)
        decay_rate = plan.rate(A) * _LOG2E
        h = u.new_zeros(plan.state_shape)
        decays, chunk = plan.buffer(u), plan.buffer(u)
        y = torch.empty_like(u, memory_format=torch.contiguous_format)
        starts = u.new_empty(len(plan.chunks), *plan.state_shape) if any(ctx.needs_input_grad) else None
        for i, part in enumerate(plan.chunks):
            if starts is not None:
                starts[i] = h
            dt = _step(delta[..., part], delta_bias, softplus)
            decay = plan.decay(plan.by_time(dt), decay_rate, decays)
            states = chunk[:len(decay)]
            torch.mul(plan.by_time(dt * u[..., part]).unsqueeze(3), plan.by_time(B[..., part]).unsqueeze(4), out=states)
            for a, s in zip(decay.unbind(0), states.unbind(0)):
                h = torch.addcmul(s, a, h, out=s)
            h = h.clone()
            read = plan.by_time(C[..., part]).unsqueeze(3) @ states
            y[..., part] = plan.by_channel(read.squeeze(3))
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, starts)
        ctx.softplus = softplus
        return y.addcmul_(u, D[:, None])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        u, delta, A, B, C, D, delta_bias, starts = ctx.saved_tensors
        plan = _Plan(u, A, B)
        rate = plan.rate(A)
        du, ddelta = torch.empty_like(u), torch.empty_like(delta)
        dB, dC, drate = torch.empty_like(B), torch.empty_like(C), torch.zeros_like(rate)
        decays, adjoint, chunk = plan.buffer(u), plan.buffer(u), plan.buffer(u, extra=1)
        carry = u.new_zeros(plan.state_shape)  # gradient that reaches a chunk's last state from later chunks
        for i, part in reversed(list(enumerate(plan.chunks))):
            dt = _step(delta[..., part], delta_bias, ctx.softplus)
            dt_t, u_t, dy_t, B_t, C_t = (
                plan.by_time(x) for x in (dt, u[..., part], dy[..., part], B[..., part], C[..., part]))
            decay = plan.decay(dt_t, rate * _LOG2E, decays)
            input_t = dt_t * u_t
            h, g = chunk[:len(decay) + 1], adjoint[:len(decay)]  # h[t + 1] is the state after t
            h[0] = starts[i]
            torch.mul(input_t.unsqueeze(3), B_t.unsqueeze(4), out=h[1:])
            for a, before, after in zip(decay.unbind(0), h.unbind(0), h[1:].unbind(0)):
                torch.addcmul(after, a, before, out=after)
            torch.mul(dy_t.unsqueeze(3), C_t.unsqueeze(4), out=g)
            g[-1] += carry
            steps = list(zip(decay.unbind(0)[1:], g.unbind(0)[1:], g.unbind(0)))
            for a, later, now in reversed(steps):
                torch.addcmul(now, a, later, out=now)
            carry = decay[0] * g[0]
            dC[..., part] = plan.by_state(h[1:] @ dy_t.unsqueeze(4))
            dB[..., part] = plan.by_state(g @ input_t.unsqueeze(4))
            dinput = (B_t.unsqueeze(3) @ g).squeeze(3)
            through_decay = g.mul_(decay).mul_(h[:-1])
            drate += torch.mul(through_decay, dt_t.unsqueeze(3), out=h[1:]).sum((0, 1))
            ddt = torch.mul(through_decay, rate, out=h[1:]).sum(3) + u_t * dinput
            ddelta[..., part] = plan.by_channel(ddt)
            if ctx.softplus:  # derivative of softplus, from the input as the forward saw it
                ddelta[..., part] *= torch.sigmoid(delta[..., part] + delta_bias[:, None])
            du[..., part] = plan.by_channel(dt_t * dinput)
        du.addcmul_(dy, D[:, None])
        dA = drate.transpose(1, 2).reshape(A.shape)
        return du, ddelta, dA, dB, dC, (dy * u).sum((0, 2)), ddelta.sum((0, 2)), None


class _Plan:
    """Shapes, chunk boundaries and the change between (batch, channels, time) and (time, batch, groups, ...)."""

    def __init__(self, u: Tensor, A: Tensor, B: Tensor):
        self.batch, self.channels, self.length = u.shape
        self.groups, self.states = B.shape[1], B.shape[2]
        self.width = self.channels // self.groups
        self.state_shape = (self.batch, self.groups, self.states, self.width)
        size = math.prod(self.state_shape)
        # saved chunk starts shrink and recomputed chunks grow with the chunk: about sqrt(length) balances them
        self.chunk = min(max(_CHUNK_ELEMENTS // max(size, 1), math.isqrt(self.length), 1), self.length)
        self.chunks = [slice(i, min(i + self.chunk, self.length)) for i in range(0, self.length, self.chunk)]

    def rate(self, A: Tensor) -> Tensor:
        """(channels, states) to (groups, states, width), contiguous along channels."""
        return A.view(self.groups, self.width, self.states).transpose(1, 2).contiguous()

    def buffer(self, like: Tensor, extra: int = 0) -> Tensor:
        """Room for the states of one chunk; used again for the next, since fresh pages cost more than the arithmetic."""
        return like.new_empty(self.chunk + extra, *self.state_shape)

    def decay(self, dt: Tensor, rate: Tensor, out: Tensor) -> Tensor:
        return torch.mul(dt.unsqueeze(3), rate, out=out[:len(dt)]).clamp_(min=_LOWEST_POWER[dt.dtype]).exp2_()

    def by_time(self, x: Tensor) -> Tensor:
        """(batch, channels | groups x states, time) to (time, batch, groups, rest)."""
        return x.reshape(self.batch, self.groups, -1, x.shape[-1]).permute(3, 0, 1, 2).contiguous()

    def by_channel(self, x: Tensor) -> Tensor:
        return x.permute(1, 2, 3, 0).reshape(self.batch, self.channels, -1)

    def by_state(self, x: Tensor) -> Tensor:
        return x.squeeze(4).permute(1, 2, 3, 0)


def _step(delta: Tensor, bias: Tensor, softplus: bool) -> Tensor:
    delta = delta + bias[:, None]
    return F.softplus(delta) if softplus else delta
