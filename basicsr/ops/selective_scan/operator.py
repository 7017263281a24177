"""`basicsr::selective_scan` as a PyTorch operator, so that torch.compile, export, autograd and FLOP counters know it."""
from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from basicsr.ops.backend import choose, module

FLOPS_PER_STATE = 9  # of one position, channel and state: the convention of Mamba papers


def backend(u: Tensor, A: Tensor) -> str:
    return choose('sequence', u, u.numel() * A.shape[1])


def _module(u: Tensor, A: Tensor) -> ModuleType:
    return module(backend(u, A), 'sequence')


@torch.library.custom_op('basicsr::selective_scan', mutates_args=())
def scan_operator(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor, softplus: bool,
                  save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """y, the last states (batch, channels, states), and with `save` the states that the backward starts from."""
    return _module(u, A).forward(u, delta, A, B, C, D, bias, softplus, save)


@scan_operator.register_fake
def _(u, delta, A, B, C, D, bias, softplus, save):
    count = _module(u, A).state_count(*u.shape, B.shape[1], A.shape[1]) if save else 0
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    dtype = torch.promote_types(u.dtype, torch.float32)
    return y, u.new_empty(u.shape[0], *A.shape, dtype=dtype), u.new_empty(count, dtype=dtype)


@torch.library.custom_op('basicsr::selective_scan_backward', mutates_args=())
def scan_backward_operator(dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor,
                           bias: Tensor, starts: Tensor,
                           softplus: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the seven tensors."""
    return _module(u, A).backward(dy, u, delta, A, B, C, D, bias, softplus, starts)


@scan_backward_operator.register_fake
def _(dy, u, delta, A, B, C, D, bias, starts, softplus):
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (u, delta, A, B, C, D, bias))


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:7], output[2])
    ctx.softplus = inputs[7]
    ctx.mark_non_differentiable(output[1], output[2])


def _backward(ctx, dy, *_):
    with torch.autocast(dy.device.type, enabled=False):  # the products of the backward are float32, too
        return *scan_backward_operator(dy, *ctx.saved_tensors, ctx.softplus), None, None


scan_operator.register_autograd(_backward, setup_context=_setup_context)


@register_flop_formula(torch.ops.basicsr.selective_scan)
def _forward_flops(u, delta, A, *args, out_shape=None, **kwargs) -> int:
    batch, channels, length = u
    return FLOPS_PER_STATE * batch * channels * length * A[1]


@register_flop_formula(torch.ops.basicsr.selective_scan_backward)
def _backward_flops(dy, *args, out_shape=None, **kwargs) -> int:
    return 3 * _forward_flops(*args)  # the states are computed once more, then two products per forward product
