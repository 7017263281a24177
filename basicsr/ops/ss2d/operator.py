"""`basicsr::ss2d_scan` as a PyTorch operator, so that torch.compile, export, autograd and FLOP counters know it."""
from __future__ import annotations

import math
from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from basicsr.ops.backend import choose, module

FLOPS_PER_STATE = 9  # of one position, channel and state: the convention of Mamba papers


def backend(x: Tensor, A: Tensor) -> str:
    return choose('ss2d', x, x.numel() * 4 * A.shape[1])


def _module(x: Tensor, A: Tensor) -> ModuleType:
    return module(backend(x, A), 'ss2d')


@torch.library.custom_op('basicsr::ss2d_scan', mutates_args=())
def ss2d_operator(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
                  save: bool) -> tuple[Tensor, Tensor]:
    """y, and with `save` the states that the backward starts from."""
    return _module(x, A).forward(x, x_dbl, dt_w, dt_b, A, D, save)


@ss2d_operator.register_fake
def _(x, x_dbl, dt_w, dt_b, A, D, save):
    count = _module(x, A).state_count(*x.shape, A.shape[1]) if save else 0
    return torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(
        count, dtype=torch.promote_types(x.dtype, torch.float32))


@torch.library.custom_op('basicsr::ss2d_part', mutates_args=('state', 'y'))
def ss2d_part_operator(x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor, columns: bool,
                       start: int, state: Tensor, y: Tensor) -> None:
    """Adds to y; the states become those after the part."""
    _module(x, A).part(x, x_dbl, dt_w, dt_b, A, D, columns, start, state, y)


@ss2d_part_operator.register_fake
def _(x, x_dbl, dt_w, dt_b, A, D, columns, start, state, y):
    return None


@torch.library.custom_op('basicsr::ss2d_scan_backward', mutates_args=())
def ss2d_backward_operator(dy: Tensor, x: Tensor, x_dbl: Tensor, dt_w: Tensor, dt_b: Tensor, A: Tensor, D: Tensor,
                           starts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the six inputs."""
    return _module(x, A).backward(dy, x, x_dbl, dt_w, dt_b, A, D, starts)


@ss2d_backward_operator.register_fake
def _(dy, x, x_dbl, dt_w, dt_b, A, D, starts):
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, x_dbl, dt_w, dt_b, A, D))


def _setup_context(ctx, inputs, output):
    ctx.set_materialize_grads(False)  # of the states there is none, and zeros would be as large as they are
    ctx.save_for_backward(*inputs[:6], output[1])


def _backward(ctx, dy, _):
    if dy is None:
        return (None, ) * 7
    with torch.autocast(dy.device.type, enabled=False):  # the products of the backward are float32, too
        return *ss2d_backward_operator(dy, *ctx.saved_tensors), None


ss2d_operator.register_autograd(_backward, setup_context=_setup_context)


@register_flop_formula(torch.ops.basicsr.ss2d_scan)
def _forward_flops(x, x_dbl, dt_w, dt_b, A, *args, out_shape=None, **kwargs) -> int:
    batch, height, width, channels = x
    return batch * height * width * 4 * channels * (FLOPS_PER_STATE * A[1] + 2 * dt_w[2])


@register_flop_formula(torch.ops.basicsr.ss2d_part)
def _part_flops(x, x_dbl, dt_w, dt_b, A, *args, out_shape=None, **kwargs) -> int:
    return math.prod(x_dbl[:4]) * x[3] * (FLOPS_PER_STATE * A[1] + 2 * dt_w[2])


@register_flop_formula(torch.ops.basicsr.ss2d_scan_backward)
def _backward_flops(dy, *args, out_shape=None, **kwargs) -> int:
    return 3 * _forward_flops(*args)  # the states are computed once more, then two products per forward product
