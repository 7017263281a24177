"""The four-direction scan on the Triton kernels: no permuted copy; the kernels compute where each position lies."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from basicsr.ops.selective_scan.triton_launch import Scans, saved_states


def state_count(batch: int, height: int, width: int, channels: int, states: int) -> int:
    """Floats that the forward saves for the backward."""
    return saved_states(batch, 4, channels, height * width, states)


def _scans(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor) -> Scans:
    height, width, channels = x.shape[1:]
    rate = A.float().view(4, channels, A.shape[1]).transpose(1, 2).contiguous()
    weight = dt_w.float().transpose(1, 2).contiguous()
    bias, direct = (t.float().reshape(4, channels).contiguous() for t in (dt_b, D))
    return Scans(
        x.flatten(1, 2).contiguous(), None,
        x_dbl.flatten(1, 2).contiguous(), weight, bias, rate, direct, height, width, group_step=0, image=True)


def forward(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
            save: bool) -> tuple[Tensor, Tensor]:
    """See `basicsr.ops.ss2d.ss2d_scan`; also returns the saved states (empty unless `save`)."""
    scans = _scans(x, x_dbl, dt_w, dt_b, A, D)
    starts, _ = scans.starts(scans.value)
    return scans.output(starts).view(x.shape), starts.flatten() if save else starts.new_empty(0)


def backward(dy: Tensor, x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
             starts: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the six inputs."""
    scans = _scans(x, x_dbl, dt_w, dt_b, A, D)
    dy = dy.reshape(scans.value.shape).contiguous()
    dx, dx_dbl = torch.empty_like(scans.value), torch.empty_like(scans.rows)
    weight: Any = scans.weight  # the step is low-rank
    d_weight, d_bias = torch.empty_like(weight), torch.empty_like(scans.bias)
    dA = torch.empty_like(scans.rate)
    for part in scans.gradients(dy, starts, dx):
        k = part.first
        low = scans.rows[:, :, k, :scans.rank].float()
        # d_step lies in the order of memory, so what remains of the step are two matrix products
        dx_dbl[:, :, k, :scans.rank] = part.d_step @ weight[k].t()
        dx_dbl[:, :, k, scans.rank:] = part.d_rows[:, 0]
        d_weight[k] = low.flatten(0, 1).t() @ part.d_step.flatten(0, 1)
        d_bias[k], dA[k] = part.d_step.sum((0, 1)), part.d_rate[0]
        del part, low  # before the next launch asks for memory
    dD = (dy.float() * scans.value).sum((0, 1)).repeat(4)  # the same for all directions
    return (dx.view(x.shape), dx_dbl.view(x_dbl.shape), d_weight.transpose(1, 2).contiguous().to(dt_w.dtype),
            d_bias.view(dt_b.shape).to(dt_b.dtype), dA.transpose(1, 2).reshape(A.shape).contiguous().to(A.dtype),
            dD.to(D.dtype))
