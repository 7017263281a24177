"""Adapter to the CUDA kernel of the package mamba-ssm."""
from __future__ import annotations

from torch import Tensor


def mamba_ssm_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor,
                   delta_softplus: bool, return_last_state: bool) -> Tensor | tuple[Tensor, Tensor]:
    """See `basicsr.ops.selective_scan.selective_scan`; CUDA tensors, differentiable, at most 256 states."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    u, delta, A, B, C, D, delta_bias = (t.contiguous() for t in (u, delta, A, B, C, D, delta_bias))
    return selective_scan_fn(u, delta, A, B, C, D, delta_bias=delta_bias, delta_softplus=delta_softplus,
                             return_last_state=return_last_state)
