"""The selective scan of Mamba (Gu & Dao 2023): a linear recurrence whose coefficients depend on the input."""
from __future__ import annotations

import torch
from torch import Tensor

from basicsr.ops.selective_scan.torch_scan import TorchScan

__all__ = ['selective_scan']


@torch.compiler.disable  # a compiler would unroll the loop over positions
def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
                   delta_bias: Tensor | None = None, delta_softplus: bool = True) -> Tensor:  # yapf: disable
    r"""Scan a sequence with input-dependent state updates.

    With dt = softplus(delta + delta_bias), per channel e and state s, starting from h = 0:

        h_t = exp(dt_t A_es) h_{t-1} + dt_t B_st u_et
        y_t = sum_s C_st h_t + D_e u_et

    Args:
        u: (batch, channels, length), the input sequence.
        delta: (batch, channels, length), step sizes before bias and softplus.
        A: (channels, states), decay rates, negative for a stable scan.
        B, C: (batch, groups, states, length); channel e belongs to group e // (channels / groups).
        D: (channels), weight of the direct path; None for none.
        delta_bias: (channels), added to delta; None for none.
        delta_softplus: apply softplus (linear above 20) to delta + delta_bias.

    Returns:
        y of the shape and dtype of `u`. The state is float32, or float64 where any input is.

    Raises:
        ValueError: when shapes do not fit together.
    """
    batch, channels, length = u.shape
    _check(delta.shape == u.shape, f'delta has shape {tuple(delta.shape)}, u has {tuple(u.shape)}')
    _check(A.dim() == 2 and len(A) == channels, f'A has shape {tuple(A.shape)}, expected ({channels}, states)')
    states = A.shape[1]
    for name, x in (('B', B), ('C', C)):
        fits = x.dim() == 4 and x.shape[0] == batch and x.shape[2:] == (states, length) and channels % x.shape[1] == 0
        _check(fits, f'{name} has shape {tuple(x.shape)}, expected ({batch}, groups, {states}, {length}) '
               f'with groups dividing {channels}')  # yapf: disable
    _check(B.shape == C.shape, f'B and C differ: {tuple(B.shape)} and {tuple(C.shape)}')
    for name, x in (('D', D), ('delta_bias', delta_bias)):
        _check(x is None or x.shape == (channels, ),
               f'{name} has shape {() if x is None else tuple(x.shape)}, expected ({channels},)')
    D = u.new_zeros(channels) if D is None else D
    delta_bias = u.new_zeros(channels) if delta_bias is None else delta_bias
    inputs = (u, delta, A, B, C, D, delta_bias)
    dtype = torch.float64 if any(x.dtype == torch.float64 for x in inputs) else torch.float32
    with torch.autocast(u.device.type, enabled=False):  # the recurrence needs the range of float32
        return TorchScan.apply(*(x.to(dtype) for x in inputs), delta_softplus).to(u.dtype)


def _check(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(f'selective_scan: {message}')
