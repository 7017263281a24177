"""The scan of SS2D (VMamba, Liu et al. 2024): four traversals of an image, fused with their step projection and sum."""
from __future__ import annotations

import torch
from torch import Tensor

from basicsr.ops.backend import function, module
from basicsr.ops.ss2d.operator import backend, ss2d_operator, ss2d_part_operator

__all__ = ['scans_parts', 'ss2d_part', 'ss2d_scan']


def ss2d_scan(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor) -> Tensor:
    r"""Scan an image along rows, columns and the reverse of both, and add the results at every pixel.

    Direction k reads the pixels in its own order. With dt = softplus(dt_w[k] x_dbl[..., k, :R] + dt_b[k]),
    B = x_dbl[..., k, R:R+N], C = x_dbl[..., k, R+N:], per channel e and state s, starting from h = 0:

        h_t = exp(dt_t A_kes) h_{t-1} + dt_t B_st x_et
        y_t = sum_s C_st h_t + D_ke x_et

    Everything stays channels-last; no permuted copy of the image is made.

    Args:
        x: (batch, height, width, channels).
        x_dbl: (batch, height, width, 4, R + 2N), one linear map of x per direction: step (rank R), B and C.
        dt_w: (4, channels, R), step projection. dt_b: (4, channels), added before softplus.
        A: (4 * channels, N), decay rates, negative for a stable scan. D: (4 * channels), direct path.

    Returns:
        y of the shape and dtype of `x`. The state is float32, or float64 where any input is.

    Raises:
        ValueError: when shapes do not fit together.
    """
    _check_shapes(x, x_dbl, dt_w, dt_b, A, D)
    inputs = (x, x_dbl, dt_w, dt_b, A, D)
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in inputs) else torch.float32
    save = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    with torch.autocast(x.device.type, enabled=False):  # the recurrence needs the range of float32
        # half-precision images go to the GPU kernels as they are, which read them into a float32 state
        image_dtype = x.dtype if x.is_cuda and x.dtype == x_dbl.dtype and dtype == torch.float32 else dtype
        cast = [t.to(image_dtype) for t in inputs[:2]] + [t.to(dtype) for t in inputs[2:]]
        # a compiler sees the operator alone, which chooses when it runs
        own = None if torch.compiler.is_compiling() else function(backend(cast[0], cast[4]), 'ss2d')
        y = own(*cast) if own else ss2d_operator(*cast, save)[0]
    return y.to(x.dtype)


def scans_parts(x: Tensor, A: Tensor) -> bool:
    """Whether `ss2d_part` runs for such an image, in float32 or float64, as `ss2d_scan` does."""
    name = backend(x, A)
    return function(name, 'ss2d') is None and hasattr(module(name, 'ss2d'), 'part')


def ss2d_part(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor, columns: bool, start: int,
              state: Tensor, y: Tensor) -> None:
    """A direction of `ss2d_scan` and its reverse, of a part of the image: its next rows, or with `columns` columns.

    The direction reads lines from the beginning of the image on, its reverse from the end on, `start` of which have been
    read before. Part after part, they add to `y` what `ss2d_scan` gives for these two directions. No gradients.

    Args:
        x: the whole image (batch, height, width, channels), float32 or float64, contiguous.
        x_dbl: of the lines of each of the two (2, batch, height, width, R + 2N), contiguous: step, B and C.
        dt_w: (2, channels, R). dt_b: (2, channels). A: (2 * channels, N). D: (2 * channels).
        state: (2, batch, channels, N), contiguous, before the part, zeros in the beginning; becomes that after it.
        y: like `x`; is added to.

    Raises:
        ValueError: for memory with gaps.
    """
    for name, tensor in (('x', x), ('x_dbl', x_dbl), ('state', state), ('y', y)):
        if not tensor.is_contiguous():
            raise ValueError(f'ss2d_part: {name} must be contiguous')
    ss2d_part_operator(x, x_dbl, dt_w, dt_b, A, D, columns, start, state, y)


def _check_shapes(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor) -> None:
    channels, rank, states = x.shape[3], dt_w.shape[2], A.shape[1]
    expected = {
        'x_dbl': (x_dbl, (*x.shape[:3], 4, rank + 2 * states)),
        'dt_w': (dt_w, (4, channels, rank)),
        'dt_b': (dt_b, (4, channels)),
        'A': (A, (4 * channels, states)),
        'D': (D, (4 * channels, )),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f'ss2d_scan: {name} has shape {tuple(tensor.shape)}, expected {shape} for x {tuple(x.shape)}')
