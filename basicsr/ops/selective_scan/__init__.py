"""The selective scan of Mamba (Gu & Dao 2023): a linear recurrence whose coefficients depend on the input."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from basicsr.ops.backend import function
from basicsr.ops.selective_scan.operator import backend, scan_operator

__all__ = ['selective_scan']

_NAMES = ('u', 'delta', 'A', 'B', 'C', 'D', 'bias')


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
                   delta_bias: Tensor | None = None, delta_softplus: bool = True, z: Tensor | None = None,
                   return_last_state: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    r"""Scan a sequence with input-dependent state updates.

    With dt = softplus(delta + delta_bias), per channel e and state s, starting from h = 0:

        h_t = exp(dt_t A_es) h_{t-1} + dt_t B_st u_et
        y_t = (sum_s C_st h_t + D_e u_et) * silu(z_et)

    Args:
        u: (batch, channels, length), the input sequence.
        delta: (batch, channels, length), step sizes before bias and softplus.
        A: (channels, states), decay rates, negative for a stable scan.
        B, C: (batch, groups, states, length), where channel e belongs to group e // (channels / groups);
            (batch, states, length), shared by all channels; or (channels, states), the same at every position.
        D: (channels), weight of the direct path; None for none.
        delta_bias: (channels), added to delta; None for none.
        delta_softplus: apply softplus (linear above 20) to delta + delta_bias.
        z: (batch, channels, length), gate; None for none.
        return_last_state: also return h after the last position, (batch, channels, states), without a gradient.

    Returns:
        y of the shape and dtype of `u`. The state is float32, or float64 where any input is.

    Raises:
        ValueError: when shapes do not fit together.
    """
    B, C = _with_groups(B, C, u)
    _check_shapes(u, delta, A, B, C, D, delta_bias, z)
    D = u.new_zeros(u.shape[1]) if D is None else D
    delta_bias = u.new_zeros(u.shape[1]) if delta_bias is None else delta_bias
    inputs = (u, delta, A, B, C, D, delta_bias)
    dtype = torch.float64 if any(x.dtype == torch.float64 for x in inputs) else torch.float32
    save = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    with torch.autocast(u.device.type, enabled=False):  # the recurrence needs the range of float32
        # half-precision sequences go to the GPU kernels as they are, which read them into a float32 state
        alike = u.is_cuda and u.dtype == delta.dtype == B.dtype == C.dtype and dtype == torch.float32
        sequence_dtype = u.dtype if alike else dtype
        cast = [x.to(dtype if name in ('A', 'D', 'bias') else sequence_dtype) for name, x in zip(_NAMES, inputs)]
        # a compiler sees the operator alone, which chooses when it runs
        own = None if torch.compiler.is_compiling() else function(backend(cast[0], cast[2]), 'sequence')
        if own:
            y, last = own(*cast, delta_softplus, return_last_state=True)
        else:
            y, last, _ = scan_operator(*cast, delta_softplus, save)
        y = y if z is None else y * F.silu(z.to(dtype))
    y = y.to(u.dtype)
    return (y, last) if return_last_state else y


def _with_groups(B: Tensor, C: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """B and C as (batch, groups, states, length); constant ones make every channel a group of its own."""
    batch, channels, length = u.shape
    constant = [x.dim() == 2 for x in (B, C)]

    def spread(x: Tensor) -> Tensor:
        if x.dim() == 2:
            return x[None, :, :, None].expand(batch, -1, -1, length)
        x = x[:, None] if x.dim() == 3 else x
        if any(constant) and x.dim() == 4 and channels % x.shape[1] == 0:
            return x.repeat_interleave(channels // x.shape[1], dim=1)
        return x

    return spread(B), spread(C)


def _check_shapes(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
                  delta_bias: Tensor | None, z: Tensor | None) -> None:
    batch, channels, length = u.shape
    _check(A.dim() == 2 and len(A) == channels, f'A has shape {tuple(A.shape)}, expected ({channels}, states)')
    for name, x in (('delta', delta), ('z', z)):
        _check(x is None or x.shape == u.shape,
               f'{name} has shape {() if x is None else tuple(x.shape)}, u has {tuple(u.shape)}')
    states = A.shape[1]
    for name, x in (('B', B), ('C', C)):
        fits = x.dim() == 4 and x.shape[0] == batch and x.shape[2:] == (states, length) and channels % x.shape[1] == 0
        _check(
            fits, f'{name} has shape {tuple(x.shape)}, expected ({batch}, groups, {states}, {length}) '
            f'with groups dividing {channels}')
    _check(B.shape == C.shape, f'B and C differ: {tuple(B.shape)} and {tuple(C.shape)}')
    for name, x in (('D', D), ('delta_bias', delta_bias)):
        shape = () if x is None else tuple(x.shape)
        _check(x is None or shape == (channels, ), f'{name} has shape {shape}, expected ({channels},)')


def _check(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(f'selective_scan: {message}')
