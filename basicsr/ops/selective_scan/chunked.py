r"""One chunk of the selective scan in plain PyTorch operators, forward and adjoint; both scan operators are made of it.

Tensors are time-major: `dt`, `u`, `dy` (time, batch, groups, width), `B`, `C` (time, batch, groups, states), states
(batch, groups, states, width). Decay and input of all positions are computed at once; the recurrence itself is one
fused multiply-add per position.

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t          y_t = sum_s C_st h_t
    g_t = C_t dy_t + exp(dt_{t+1} A) g_{t+1}          (adjoint of h_t)
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG2E = 1 / math.log(2)
# exp2 of less is a subnormal number, which CPUs handle some hundred times slower; the state has long vanished there
_LOWEST_POWER = {torch.float32: -126.0, torch.float64: -1022.0}
_CHUNK_ELEMENTS = 1 << 18  # states of one chunk: about what fits in a core's cache together with the decay


class Chunks:
    """Chunk boundaries of a sequence, and the buffers that every chunk uses again.

    Fresh memory pages cost more than the arithmetic on them, so buffers are made once.

    Args:
        like: gives dtype and device. shape: of the states. rate: A as (groups, states, width).
        backward: make the buffers of the adjoint too.
    """

    def __init__(self, like: Tensor, shape: tuple[int, int, int, int], length: int, rate: Tensor,
                 backward: bool = False):
        self.size = chunk_size(shape, length)
        self.parts = [slice(i, min(i + self.size, length)) for i in range(0, length, self.size)]
        self.rate = rate
        self._scaled_rate = rate * LOG2E
        self._lowest = _LOWEST_POWER[like.dtype]
        self._decay = like.new_empty(self.size, *shape)
        self._states = like.new_empty(self.size + 1, *shape)
        self._adjoint = like.new_empty(self.size if backward else 0, *shape)

    def _prepare(self, dt: Tensor, inputs: Tensor, B: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Decay of every position, and all states: index t + 1 is the state after position t."""
        steps = len(dt)
        decay = torch.mul(dt.unsqueeze(3), self._scaled_rate, out=self._decay[:steps])
        decay.clamp_(min=self._lowest).exp2_()
        states = self._states[:steps + 1]
        states[0] = start
        torch.mul(inputs.unsqueeze(3), B.unsqueeze(4), out=states[1:])
        for a, before, after in zip(decay.unbind(0), states.unbind(0), states[1:].unbind(0)):
            torch.addcmul(after, a, before, out=after)
        return decay, states

    def forward(self, dt: Tensor, u: Tensor, B: Tensor, C: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """(y without the direct path (time, batch, groups, width), states after the chunk)."""
        _, states = self._prepare(dt, dt * u, B, start)
        return (C.unsqueeze(3) @ states[1:]).squeeze(3), states[-1].clone()

    def backward(self, dt: Tensor, u: Tensor, B: Tensor, C: Tensor, dy: Tensor, start: Tensor,
                 carry: Tensor) -> tuple[Tensor, ...]:
        """Gradients (d_dt, d_u, dB, dC, d_rate) and the carry for the chunk before.

        `carry`: decay times adjoint of the position after the chunk.
        """
        inputs = dt * u
        decay, states = self._prepare(dt, inputs, B, start)
        g = torch.mul(dy.unsqueeze(3), C.unsqueeze(4), out=self._adjoint[:len(dt)])
        g[-1] += carry
        for a, later, now in zip(*(reversed(x.unbind(0)) for x in (decay[1:], g[1:], g[:-1]))):
            torch.addcmul(now, a, later, out=now)
        dC = (states[1:] @ dy.unsqueeze(4)).squeeze(4)
        dB = (g @ inputs.unsqueeze(4)).squeeze(4)
        d_inputs = (B.unsqueeze(3) @ g).squeeze(3)
        carry = decay[0] * g[0]
        through_decay = g.mul_(decay).mul_(states[:-1])
        room = self._states[1:len(dt) + 1]
        d_dt = torch.mul(through_decay, self.rate, out=room).sum(3).addcmul_(u, d_inputs)
        d_rate = torch.mul(through_decay, dt.unsqueeze(3), out=room).sum((0, 1))
        return d_dt, d_inputs * dt, dB, dC, d_rate, carry


def chunk_size(shape: tuple[int, int, int, int], length: int) -> int:
    """Positions per chunk: what fits the cache, but not less than about sqrt(length).

    Saved chunk starts shrink and recomputed chunks grow with it; sqrt(length) balances the two.
    """
    return max(min(max(_CHUNK_ELEMENTS // max(math.prod(shape), 1), math.isqrt(length)), length), 1)


def rate_by_group(A: Tensor, groups: int) -> Tensor:
    """(channels, states) to (groups, states, width), contiguous along channels."""
    return A.view(groups, -1, A.shape[1]).transpose(1, 2).contiguous()


def in_float32(*tensors: Tensor) -> list[Tensor]:
    """Half-precision tensors as float32; others as they are."""
    return [t.to(torch.promote_types(t.dtype, torch.float32)) for t in tensors]


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), x itself above 20."""
    return F.softplus(x)
